"""Stage `sft`: the student learns the teacher's answers (dSFT) or the data's own."""

import logging
from typing import TypeVar

from distill.data import CHAT_TEMPLATE, Conversation, read_conversations
from distill.errors import RecipeError
from distill.files import fingerprint
from distill.models import (
    LoadedModel,
    ModelSettings,
    add_lora,
    count_parameters,
    let_adapters_learn,
    load_model,
    new_model,
    prune,
    save_model,
    train_tokenizer,
)
from distill.pipeline.merged import with_merged_checkpoint
from distill.pipeline.prompts import prompts_of_sft, without_left_out
from distill.pipeline.run_folder import RunFolder, model_source
from distill.pipeline.stage_settings import DistilledSftSettings
from distill.pipeline.teacher import described_start, load_teacher, teacher_generator, teacher_tokenizer
from distill.pipeline.tokenized import tokenized_conversations
from distill.preference import teacher_answers
from distill.training import TrainSettings, is_main_rank, train, wait_for_main_rank

log = logging.getLogger(__name__)

NUM_CALIBRATION_CONVERSATIONS = 64

SettingsType = TypeVar("SettingsType", bound=TrainSettings)


def run_sft(run: RunFolder) -> dict[str, object]:
    """Trains the student's start; `model/` in the stage's folder is the reference policy of later stages.

    Adapters end in `merged/` too, with their base in one checkpoint.
    """
    summary = _trained(run)
    return {**summary, **with_merged_checkpoint(run.stage("sft"))}


def _trained(run: RunFolder) -> dict[str, object]:
    settings = run.recipe.sft
    assert settings is not None
    conversations = _answered(run, settings)
    settings = settings_here(run, settings)
    student = new_student(run, conversations)
    log.info("student: %d parameters", count_parameters(student.model))
    examples = tokenized_conversations(student.tokenizer, conversations, max_length_tokens=settings.max_length_tokens)
    validation = tokenized_conversations(
        student.tokenizer, read_conversations(run.conversations("valid")), max_length_tokens=settings.max_length_tokens
    )
    report = train(
        student,
        examples,
        settings=settings,
        output_dir=run.stage("sft"),
        seed=run.recipe.seed,
        validation=validation,
    )
    return {"num_conversations": len(examples), "num_parameters": count_parameters(student.model), **report.to_json()}


def settings_here(run: RunFolder, settings: SettingsType) -> SettingsType:
    """The section with its DeepSpeed file resolved against the recipe."""
    if settings.deepspeed is None:
        return settings
    return settings.model_copy(update={"deepspeed": run.loaded.resolve(settings.deepspeed)})


def _answered(run: RunFolder, settings: DistilledSftSettings) -> list[Conversation]:
    """The conversations to learn, the teacher's answers first."""
    conversations: list[Conversation] = []
    if settings.answers == "teacher":
        conversations += _answers_of_teacher(run, settings)
    elif settings.labelled == "none":
        raise RecipeError(
            "sft.answers is data and sft.labelled is none", why="nothing is left to learn", fix="set sft.labelled"
        )
    if settings.labelled != "none":
        conversations += without_left_out(run, read_conversations(run.conversations(settings.labelled)))
    return conversations


def _answers_of_teacher(run: RunFolder, settings: DistilledSftSettings) -> list[Conversation]:
    """Answers every prompt with the teacher once; other ranks of a launcher wait for the main one."""
    folder = run.stage("sft") / "teacher_answers"
    prompts = prompts_of_sft(run)
    if not is_main_rank():
        wait_for_main_rank(folder / "report.json")
    teacher, models_fingerprint = teacher_generator(run, settings.linear_alignment)
    return teacher_answers(
        prompts,
        teacher=teacher,
        settings=settings.sampling,
        seed=run.recipe.seed,
        output_dir=folder,
        models_fingerprint=models_fingerprint,
    )


def load_start(run: RunFolder) -> LoadedModel:
    """The student before preference training."""
    return described_start(run).load()


def new_student(run: RunFolder, conversations: list[Conversation]) -> LoadedModel:
    """The student before its first step: a folder, a random start, or cut out of the teacher."""
    settings = run.recipe.student
    if settings.path is not None:
        loaded = load_model(
            model_source(settings),
            dtype=settings.dtype,
            device=settings.device,
            quantization=settings.quantization,
            revision=settings.revision,
            chat_template=run.chat_template(settings),
        )
    elif settings.lora is not None:
        loaded = _saved_start(run, settings, conversations)
    else:
        loaded = _made_start(run, settings, conversations)
    return with_adapters(run, loaded)


def with_adapters(run: RunFolder, student: LoadedModel) -> LoadedModel:
    """The student with fresh adapters where the recipe asks for them; those that it has already learn on."""
    lora = run.recipe.student.lora
    if lora is None:
        let_adapters_learn(student.model)
        return student
    adapted = add_lora(student.model, lora, seed=run.recipe.seed)
    made_of = fingerprint([student.fingerprint, lora.model_dump(mode="json"), run.recipe.seed])
    return LoadedModel(adapted, student.tokenizer, student.source, made_of)


def trainable_start(run: RunFolder, start: LoadedModel) -> LoadedModel:
    """The student before preference training as it learns: stage `sft`'s adapters go on, others begin fresh."""
    if run.recipe.sft is None:
        return with_adapters(run, start)
    let_adapters_learn(start.model)
    return start


def _saved_start(run: RunFolder, settings: ModelSettings, conversations: list[Conversation]) -> LoadedModel:
    """A made start from disk: adapters name the folder of their base, and load back onto it."""
    base = (run.stage("sft") / "base").resolve()
    if is_main_rank():
        if not base.exists():
            made = _made_start(run, settings, conversations)
            save_model(made.model, made.tokenizer, base)
    else:
        wait_for_main_rank(base)
    return load_model(base, dtype=settings.dtype, device=settings.device, quantization=settings.quantization)


def _made_start(run: RunFolder, settings: ModelSettings, conversations: list[Conversation]) -> LoadedModel:
    if settings.prune is not None:
        return _pruned_teacher(run, settings, conversations)
    return _random_start(run, settings, conversations)


def _pruned_teacher(run: RunFolder, settings: ModelSettings, conversations: list[Conversation]) -> LoadedModel:
    assert settings.prune is not None
    teacher = load_teacher(run)
    calibration = tokenized_conversations(
        teacher.tokenizer, conversations[:NUM_CALIBRATION_CONVERSATIONS], max_length_tokens=512
    )
    model = prune(teacher.model, settings.prune, calibration=[list(row.input_ids) for row in calibration])
    return LoadedModel(model, teacher.tokenizer, "pruned teacher", "scratch")


def _random_start(run: RunFolder, settings: ModelSettings, conversations: list[Conversation]) -> LoadedModel:
    assert settings.scratch is not None
    if settings.tokenizer_vocab_size is not None:
        texts = [message.content for row in conversations for message in row.messages]
        tokenizer = train_tokenizer(
            texts,
            vocab_size=settings.tokenizer_vocab_size,
            chat_template=CHAT_TEMPLATE,
            architecture=settings.scratch.architecture,
        )
    elif run.recipe.teacher is not None:
        tokenizer = teacher_tokenizer(run)
    else:
        raise RecipeError(
            "student.tokenizer_vocab_size is not set",
            why="a student with a random start and no teacher needs a tokenizer of its own",
            fix="student.tokenizer_vocab_size=2048",
        )
    model = new_model(settings.scratch, tokenizer, seed=run.recipe.seed)
    return LoadedModel(model, tokenizer, "random start", "scratch")
