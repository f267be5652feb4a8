"""Everything that is measured on one model, kept in one file, so that an evaluation resumes model by model."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill.data import Conversation, Message, tokenize_conversation
from distill.decoding import Generation, Generator, SamplingSettings, answer_conversations
from distill.errors import DataError
from distill.files import fingerprint, read_json, write_json
from distill.models import LoadedModel
from distill.settings import Settings, validated
from eval.accuracy import accuracy
from eval.checkers import judge
from eval.divergence import kl_to_teacher, reference_perplexity
from eval.mt_bench.answers import answer_questions
from eval.mt_bench.questions import Question
from eval.scores import Interval
from eval.throughput import throughput

log = logging.getLogger(__name__)

TEST, QUESTIONS = "test", "questions"
NUM_SPEED_PROMPTS = 64
MAX_LENGTH_TOKENS = 2048


class AnsweredSet(Settings):
    """A model's answers to one set of conversations, with verdicts; accuracies are None where none was checked."""

    answers: tuple[tuple[str, ...], ...]
    accuracy: Interval | None
    strict_accuracy: Interval | None
    accuracy_by_category: dict[str, float]
    right: tuple[tuple[bool, ...], ...]
    share_unfinished: float
    mean_tokens: float
    num_unchecked: int


class MeasuredModel(Settings):
    """All figures of one model; `key` fingerprints what they were measured with."""

    format: Literal["distill-measured"] = "distill-measured"
    version: Literal[1] = 1
    key: str
    name: str
    kind: Literal["teacher", "student", "export"]
    num_parameters: int | None
    size_bytes: int | None
    sets: dict[str, AnsweredSet]
    kl_to_teacher_nats: float | None
    kl_standard_error_nats: float | None
    perplexity: float | None
    tokens_per_s: float | None


@dataclass(frozen=True)
class Examination:
    """What every model is asked.

    `test` are held-out conversations; `references` are such with the answers on which divergence and perplexity
    are measured; `questions` are an MT-Bench-shaped set, where there is one.
    """

    test: Sequence[Conversation]
    references: Sequence[Conversation]
    questions: Sequence[Question]
    sampling: SamplingSettings
    seed: int

    @property
    def key(self) -> str:
        """Fingerprint of the questions, the references and the sampling."""
        asked = [[row.to_json() for row in rows] for rows in (self.test, self.references, self.questions)]
        return fingerprint([asked, self.sampling.model_dump(mode="json"), self.seed])


def measured(path: Path, key: str) -> MeasuredModel | None:
    """The figures that stand in `path`, if they were measured with `key`."""
    if not path.exists():
        return None
    found = validated(MeasuredModel, read_json(path), source=str(path))
    return found if found.key == key else None


def measure(
    path: Path,
    examination: Examination,
    *,
    key: str,
    name: str,
    kind: Literal["teacher", "student", "export"],
    generator: Generator,
    loaded: LoadedModel,
    teacher: LoadedModel | None,
    num_parameters: int | None,
    size_bytes: int | None,
) -> MeasuredModel:
    """Measures one model and writes the figures to `path`; answers to questions go to `model_answer/` two folders up.

    Args:
        path: where the figures stand afterwards.
        examination: what to ask.
        key: what the figures are filed under.
        name: the model's row in the table.
        kind: teacher, student or export.
        generator: answers; llama.cpp for a GGUF file.
        loaded: the same weights in transformers, for divergence and perplexity.
        teacher: KL is measured against it; None leaves the KL out.
        num_parameters: for the table.
        size_bytes: for the table.

    Raises:
        DataError: there is nothing to answer, or a figure is not finite.
    """
    log.info("measuring %s", name)
    if not examination.test:
        raise DataError("there is no test conversation", why=f"{name} has nothing to answer", fix="raise data.num_test")
    sets = {TEST: _test_answers(generator, examination)}
    if examination.questions:
        sets[QUESTIONS] = _question_answers(generator, examination, name=name, key=key, output_dir=path.parent.parent)
    rows = [
        tokenize_conversation(loaded.tokenizer, c, max_length_tokens=MAX_LENGTH_TOKENS) for c in examination.references
    ]
    examples = [row for row in rows if row is not None]
    kl = None if teacher is None else kl_to_teacher(loaded, teacher, examples)
    perplexity = reference_perplexity(loaded, examples).perplexity
    if not math.isfinite(perplexity) or (kl is not None and not math.isfinite(kl.mean_nats)):
        raise DataError(
            f"{name} has no finite divergence or perplexity",
            why="it rules out a token of a reference answer, or its weights are not finite",
            fix="look at the model's training curves; leave a damaged export out of export.formats",
        )
    speed_prompts = [first_prompt(c) for c in examination.test[:NUM_SPEED_PROMPTS]]
    result = MeasuredModel(
        key=key,
        name=name,
        kind=kind,
        num_parameters=num_parameters,
        size_bytes=size_bytes,
        sets=sets,
        kl_to_teacher_nats=None if kl is None else kl.mean_nats,
        kl_standard_error_nats=None if kl is None else kl.standard_error_nats,
        perplexity=perplexity,
        tokens_per_s=throughput(generator, speed_prompts, examination.sampling).tokens_per_s,
    )
    write_json(path, result.model_dump(mode="json"))
    return result


def first_prompt(conversation: Conversation) -> list[Message]:
    """The conversation up to its first user turn."""
    system = [] if conversation.system is None else [conversation.system]
    return [*system, conversation.user_turns[0]]


def with_answers(conversation: Conversation, answers: Sequence[Generation]) -> Conversation:
    """The conversation with a model's answers in place of its own."""
    messages = [] if conversation.system is None else [conversation.system]
    for user, answer in zip(conversation.user_turns, answers, strict=True):
        messages += [user, Message("assistant", answer.text)]
    return Conversation(conversation.id, tuple(messages), conversation.facts)


def _test_answers(generator: Generator, examination: Examination) -> AnsweredSet:
    answers = answer_conversations(generator, examination.test, examination.sampling, seed=examination.seed)
    return _answered_set(examination.test, answers, seed=examination.seed)


def _question_answers(
    generator: Generator, examination: Examination, *, name: str, key: str, output_dir: Path
) -> AnsweredSet:
    answers = answer_questions(
        generator,
        examination.questions,
        model_name=name.replace(" ", "-"),
        model_fingerprint=key,
        settings=examination.sampling,
        seed=examination.seed,
        output_dir=output_dir,
    )
    conversations = [question.to_conversation() for question in examination.questions]
    return _answered_set(conversations, [answer.turns for answer in answers], seed=examination.seed)


def _answered_set(
    conversations: Sequence[Conversation], answers: Sequence[Sequence[Generation]], *, seed: int
) -> AnsweredSet:
    judged = judge(conversations, answers)
    found = accuracy(judged, seed=seed)
    generations = [generation for turns in answers for generation in turns]
    return AnsweredSet(
        answers=tuple(tuple(generation.text for generation in turns) for turns in answers),
        accuracy=None if found is None else found.overall,
        strict_accuracy=None if found is None or found.strict == found.overall else found.strict,
        accuracy_by_category={} if found is None else {name: share.mean for name, share in found.by_category.items()},
        right=tuple(row.right for row in judged.conversations),
        share_unfinished=sum(g.finish_reason == "length" for g in generations) / len(generations),
        mean_tokens=sum(g.num_tokens for g in generations) / len(generations),
        num_unchecked=judged.num_unchecked,
    )
