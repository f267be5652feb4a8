"""Everything that is measured on one model, kept in one file, so that an evaluation resumes model by model."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill.data import Conversation, Message, tokenize_conversation
from distill.decoding import Generation, Generator, SamplingSettings, answer_conversations
from distill.files import fingerprint, read_json, write_json
from distill.models import LoadedModel
from distill.settings import Settings, validated
from eval.checkers import Judged, judge
from eval.divergence import kl_to_teacher, reference_perplexity
from eval.throughput import throughput

log = logging.getLogger(__name__)

NUM_SPEED_PROMPTS = 64
MAX_LENGTH_TOKENS = 2048


class AnsweredSet(Settings):
    """A model's answers to one set of conversations, with their verdicts."""

    answers: tuple[tuple[str, ...], ...]
    right: tuple[tuple[bool, ...], ...]
    reasons: tuple[tuple[tuple[str, ...], ...], ...]
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

    `references` are held-out conversations with the answers on which divergence and perplexity are measured;
    `sets` are the conversations to answer, by name.
    """

    sets: Mapping[str, Sequence[Conversation]]
    references: Sequence[Conversation]
    sampling: SamplingSettings
    seed: int

    @property
    def key(self) -> str:
        """Fingerprint of the questions, the references and the sampling."""
        asked = {name: [row.to_json() for row in rows] for name, rows in self.sets.items()}
        references = [row.to_json() for row in self.references]
        return fingerprint([asked, references, self.sampling.model_dump(mode="json"), self.seed])


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
    """Measures one model and writes the figures to `path`.

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
    """
    log.info("measuring %s", name)
    sets = {label: _answered(generator, rows, examination) for label, rows in examination.sets.items()}
    rows = [
        tokenize_conversation(loaded.tokenizer, c, max_length_tokens=MAX_LENGTH_TOKENS) for c in examination.references
    ]
    examples = [row for row in rows if row is not None]
    kl = None if teacher is None else kl_to_teacher(loaded, teacher, examples)
    speed_prompts = [first_prompt(c) for c in next(iter(examination.sets.values()))[:NUM_SPEED_PROMPTS]]
    result = MeasuredModel(
        key=key,
        name=name,
        kind=kind,
        num_parameters=num_parameters,
        size_bytes=size_bytes,
        sets=sets,
        kl_to_teacher_nats=None if kl is None else kl.mean_nats,
        kl_standard_error_nats=None if kl is None else kl.standard_error_nats,
        perplexity=reference_perplexity(loaded, examples).perplexity,
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


def _answered(generator: Generator, conversations: Sequence[Conversation], examination: Examination) -> AnsweredSet:
    answers = answer_conversations(generator, conversations, examination.sampling, seed=examination.seed)
    judged: Judged = judge(conversations, answers)
    generations = [generation for turns in answers for generation in turns]
    return AnsweredSet(
        answers=tuple(tuple(generation.text for generation in turns) for turns in answers),
        right=tuple(row.right for row in judged.conversations),
        reasons=tuple(tuple(turn.verdict.reasons for turn in row.turns) for row in judged.conversations),
        share_unfinished=sum(g.finish_reason == "length" for g in generations) / len(generations),
        mean_tokens=sum(g.num_tokens for g in generations) / len(generations),
        num_unchecked=judged.num_unchecked,
    )
