"""A model that learns one part of a stage before it is asked: loaded or made here, trained by our trainer."""

from collections.abc import Sequence
from pathlib import Path

from distill.data import CHAT_TEMPLATE, Conversation
from distill.errors import RecipeError
from distill.files import fingerprint
from distill.models import (
    LoadedModel,
    ModelSettings,
    add_lora,
    let_adapters_learn,
    model_fingerprint,
    new_model,
    train_tokenizer,
)
from distill.pipeline.run_folder import RunFolder, model_source
from distill.pipeline.sft import settings_here
from distill.pipeline.tokenized import tokenized_conversations
from distill.teacher_cache import TeacherSource
from distill.training import TrainSettings, train


def tuned_model(
    run: RunFolder,
    model: ModelSettings,
    tuning: TrainSettings,
    conversations: Sequence[Conversation],
    *,
    folder: Path,
) -> Path:
    """The folder of the model after it learned the conversations; a training that was cut off goes on.

    Raises:
        RecipeError: a random start has no tokenizer of its own.
        DataError: nothing of the conversations can be learned.
    """
    settings = settings_here(run, tuning)
    start = _start(run, model, conversations)
    examples = tokenized_conversations(start.tokenizer, conversations, max_length_tokens=settings.max_length_tokens)
    train(start, examples, settings=settings, output_dir=folder, seed=run.recipe.seed)
    return folder / "model"


def described_model(run: RunFolder, model: ModelSettings, tuned: Path | None) -> TeacherSource:
    """Where a model is and how it is loaded: as it was saved after its tuning, or as the settings say.

    Args:
        run: against whose recipe paths resolve.
        model: the settings.
        tuned: the folder that `tuned_model` wrote; None: it was not tuned.
    """
    template = run.chat_template(model)
    return TeacherSource(
        str(model_source(model) if tuned is None else tuned),
        dtype=model.dtype,
        device=model.device,
        placement=model.placement,
        quantization=model.quantization if tuned is None else None,
        revision=model.revision if tuned is None else None,
        chat_template=None if tuned is not None or template is None else str(template),
    )


def fingerprint_of(source: TeacherSource) -> str:
    """The fingerprint of what `source.load()` gives; nothing is built."""
    template = None if source.chat_template is None else Path(source.chat_template)
    return model_fingerprint(
        Path(source.model) if Path(source.model).exists() else source.model,
        dtype=source.dtype,
        quantization=source.quantization,
        revision=source.revision,
        chat_template=template,
    )


def _start(run: RunFolder, model: ModelSettings, conversations: Sequence[Conversation]) -> LoadedModel:
    """The model before its first step."""
    if model.scratch is None:
        start = described_model(run, model, None).load()
    else:
        if model.tokenizer_vocab_size is None:
            raise RecipeError(
                "model.tokenizer_vocab_size is not set",
                why="a random start beside the run's student needs a tokenizer of its own",
                fix="tokenizer_vocab_size: 2048",
            )
        texts = [message.content for row in conversations for message in row.messages]
        tokenizer = train_tokenizer(
            texts,
            vocab_size=model.tokenizer_vocab_size,
            chat_template=CHAT_TEMPLATE,
            architecture=model.scratch.architecture,
        )
        start = LoadedModel(new_model(model.scratch, tokenizer, seed=run.recipe.seed), tokenizer, "random", "scratch")
    if model.lora is None:
        let_adapters_learn(start.model)
        return start
    adapted = add_lora(start.model, model.lora, seed=run.recipe.seed)
    made_of = fingerprint([start.fingerprint, model.lora.model_dump(mode="json"), run.recipe.seed])
    return LoadedModel(adapted, start.tokenizer, start.source, made_of)
