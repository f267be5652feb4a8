"""Stage `safer_instruct`: unlabelled texts become preference pairs; its models are tuned first where that is asked."""

import logging

from distill.data import Conversation, Message, read_conversations
from distill.data.splits import HELD_OUT_SHARE
from distill.decoding import ChatGenerator, SamplingSettings, ServerSettings, TransformersGenerator
from distill.embedded import labelled_requests, unfiltered_dialogues, unsafe_texts
from distill.files import fingerprint, sha256_of_file, write_json
from distill.pipeline.recipe import Recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.safer_instruct_settings import (
    AskedSettings,
    EmbeddedRequests,
    EmbeddedTexts,
    FileRequests,
    SaferInstructSettings,
)
from distill.pipeline.teacher import described_teacher, teacher_generator
from distill.pipeline.tuned import described_model, fingerprint_of, tuned_model
from distill.preference import (
    AskedModel,
    TextFileSettings,
    judge_prompt,
    parsed_verdict,
    read_texts,
    reversed_conversations,
    safer_instruct,
    source_lines,
)
from distill.preference.safer_instruct import REPORT_NAME
from distill.preference.screening import verdict_text
from distill.preference.source_texts import SourceLine, key_of

log = logging.getLogger(__name__)

STAGE = "safer_instruct"
Labelled = list[tuple[str, bool]]


def run_safer_instruct(run: RunFolder) -> dict[str, object]:
    """Writes `pairs.jsonl`, the fate of every text, and every intermediate; returns the counts."""
    settings = _settings(run)
    lines = texts_of(run)
    backward = _asked_model(run, "backward", settings.backward, settings.backward.sampling, _backward_examples(run))
    learned, held_out = requests_of(run)
    examples = [_judged(number, text, label, settings) for number, (text, label) in enumerate(learned)]
    judge = _asked_model(run, "judge", settings.judge, settings.judge.sampling, examples)
    report = safer_instruct(
        lines,
        backward=backward,
        judge=judge,
        expert=_expert(run),
        judge_template=settings.judge.template,
        settings=settings,
        seed=run.recipe.seed,
        output_dir=run.stage(STAGE),
        held_out=examination(run),
    )
    told = {**report.to_json(), **_judge_figures(judge, held_out, settings, seed=run.recipe.seed)}
    write_json(run.stage(STAGE) / REPORT_NAME, told)
    return told


def texts_of(run: RunFolder) -> list[SourceLine]:
    """Every line of the recipe's texts.

    Raises:
        DataError: the file is missing, damaged, or holds none.
    """
    texts = _settings(run).texts
    if isinstance(texts, EmbeddedTexts):
        lines = unsafe_texts(num_texts=texts.num_texts, ordinary_share=texts.ordinary_share, seed=run.recipe.seed)
        return source_lines(lines, name="embedded", max_characters=2000)
    return read_texts(texts)


def requests_of(run: RunFolder) -> tuple[Labelled, Labelled]:
    """Labelled instructions that the judge learns from, and those that measure it; none where it is not tuned."""
    requests = _settings(run).judge.requests
    if requests is None:
        return [], []
    if isinstance(requests, EmbeddedRequests):
        found = [
            labelled_requests(split, num_dialogues=requests.num_dialogues, seed=run.recipe.seed)
            for split in ("teacher", "test")
        ]
        return found[0], found[1]
    return _divided(_labelled(requests))


def files_identity(recipe: Recipe, stage: str) -> str:
    """A fingerprint of the files of texts that a stage reads; where they are does not count.

    Those of the examination count for this stage too: no pair may hold what they ask.
    """
    sections: list[object] = [*exam_files(recipe)]
    if stage == STAGE and recipe.safer_instruct is not None:
        sections += [recipe.safer_instruct.texts, recipe.safer_instruct.judge.requests]
    paths = [section.path for section in sections if isinstance(section, TextFileSettings)]
    return fingerprint([sha256_of_file(path) if path.is_file() else "missing" for path in paths])


def exam_files(recipe: Recipe) -> list[TextFileSettings]:
    """The files of prompts on which the student is examined."""
    prompts = None if recipe.harmlessness is None else recipe.harmlessness.prompts
    return [] if prompts is None else [prompts.provoking, prompts.ordinary]


def examination(run: RunFolder) -> list[str]:
    """Every instruction that no pair may hold: of valid and test conversations, and of the files of prompts."""
    rows = [row for role in ("valid", "test") for row in read_conversations(run.conversations(role))]
    asked = [turn.content for row in rows for turn in row.user_turns]
    return asked + [line.text for file in exam_files(run.recipe) for line in read_texts(file) if line.text is not None]


def _settings(run: RunFolder) -> SaferInstructSettings:
    assert run.recipe.safer_instruct is not None
    return run.recipe.safer_instruct


def _labelled(requests: FileRequests) -> Labelled:
    """The file's texts; the label decides which provoke."""
    provoking = requests.model_copy(update={"keep": {**requests.keep, requests.label: requests.provoking}})
    keys = {line.key for line in read_texts(provoking) if line.text is not None}
    return [(line.text, line.key in keys) for line in read_texts(requests) if line.text is not None]


def _divided(labelled: Labelled) -> tuple[Labelled, Labelled]:
    """All but a tenth by the hash of the text, and that tenth."""
    parts: tuple[Labelled, Labelled] = ([], [])
    for text, is_provoking in labelled:
        parts[int(key_of(text)[:8], 16) % round(1 / HELD_OUT_SHARE) == 0].append((text, is_provoking))
    return parts


def _backward_examples(run: RunFolder) -> list[Conversation]:
    settings = _settings(run).backward
    if settings.tuning is None:
        return []
    rows = read_conversations(run.conversations(settings.conversations))
    unfiltered = unfiltered_dialogues(num_dialogues=settings.num_unfiltered, seed=run.recipe.seed)
    for number, (request, answer) in enumerate(unfiltered):
        rows.append(Conversation(f"unfiltered-{number}", (Message("user", request), Message("assistant", answer))))
    return reversed_conversations(rows)


def _judged(number: int, text: str, is_provoking: bool, settings: SaferInstructSettings) -> Conversation:
    """A labelled instruction as the judge learns it."""
    asked = judge_prompt(text, template=settings.judge.template)
    return Conversation(f"request-{number}", (*asked, Message("assistant", verdict_text(is_provoking))))


def _asked_model(
    run: RunFolder, name: str, settings: AskedSettings, sampling: SamplingSettings, examples: list[Conversation]
) -> AskedModel:
    """One of the section's models, tuned on the examples where it asks for that."""
    if settings.endpoint is not None:
        return _served(settings.endpoint, sampling, section=f"{STAGE}.{name}.endpoint")
    assert settings.model is not None
    tuned = None
    if settings.tuning is not None:
        log.info("%s: %d examples", name, len(examples))
        tuned = tuned_model(run, settings.model, settings.tuning, examples, folder=run.stage(STAGE) / name)
    source = described_model(run, settings.model, tuned)
    return AskedModel(lambda: TransformersGenerator(source.load()), sampling, fingerprint_of(source))


def _expert(run: RunFolder) -> AskedModel:
    settings = _settings(run).expert
    if settings.endpoint is not None:
        return _served(settings.endpoint, settings.sampling, section=f"{STAGE}.expert.endpoint")
    assert run.recipe.teacher is not None
    if run.recipe.teacher.endpoint is not None:
        generator, made_of = teacher_generator(run)
        return AskedModel(lambda: generator, settings.sampling, made_of)
    source = described_teacher(run)
    return AskedModel(lambda: TransformersGenerator(source.load()), settings.sampling, fingerprint_of(source))


def _served(endpoint: ServerSettings, sampling: SamplingSettings, *, section: str) -> AskedModel:
    """A server's model, called by what the server says it is."""
    generator = ChatGenerator(endpoint, section=section)
    return AskedModel(lambda: generator, sampling, f"{endpoint.model}: {generator.served_model()}")


def _judge_figures(
    judge: AskedModel, held_out: Labelled, settings: SaferInstructSettings, *, seed: int
) -> dict[str, object]:
    """How often the tuned judge is right about labelled instructions that it did not learn from."""
    if not held_out:
        return {}
    prompts = [judge_prompt(text, template=settings.judge.template) for text, _ in held_out]
    replies = judge.open().generate(prompts, judge.sampling, seed=seed)
    right = [parsed_verdict(reply.text) is label for reply, (_, label) in zip(replies, held_out, strict=True)]
    return {"judge_accuracy": sum(right) / len(right), "num_judge_held_out": len(right)}
