"""Was an evaluation prompt trained on? By the whole text, by single turns, and by shared runs of words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from distill.data.records import Conversation
from distill.data.splits import normalised
from distill.errors import DataError, GateError

NGRAM_WORDS = 13
LEAST_TURN_WORDS = 6
LARGEST_OVERLAP = 0.5

Words = tuple[str, ...]
Key = TypeVar("Key")


@dataclass(frozen=True)
class LeakedPrompt:
    """An evaluation prompt found in the training data.

    Attributes:
        id: of the evaluation prompt.
        rule: `exact`: all user turns are a training conversation's; `turn`: one turn of at least six words is a
            training prompt's; `overlap`: too many words of a turn stand in runs of words that training texts hold.
        overlap: largest share of a turn's words within such runs.
        found_in: id of the first training conversation that holds the text.
    """

    id: str
    rule: Literal["exact", "turn", "overlap"]
    overlap: float
    found_in: str


@dataclass(frozen=True)
class LeakageReport:
    """What was compared and found; `num_short` prompts have no run long enough for the rule of overlap."""

    num_prompts: int
    num_training: int
    num_short: int
    ngram_words: int
    largest_overlap: float
    leaked: tuple[LeakedPrompt, ...]

    @property
    def share(self) -> float:
        """Of evaluation prompts that were found."""
        return len(self.leaked) / self.num_prompts


def find_leakage(
    prompts: Sequence[Conversation],
    training: Iterable[Conversation],
    *,
    ngram_words: int = NGRAM_WORDS,
    largest_overlap: float = LARGEST_OVERLAP,
) -> LeakageReport:
    """Compares user turns without case, punctuation and doubled spaces with every training conversation.

    Runs of words are looked for in all of a training conversation's messages but the system's. System messages are
    shared by design and prove nothing.

    Args:
        prompts: of the evaluation.
        training: read once, in a stream; only what the prompts hold is kept.
        ngram_words: length of a run.
        largest_overlap: share of a turn's words in shared runs from which on a prompt counts as leaked.

    Raises:
        DataError: no prompt, no training conversation, or a setting that makes no sense.

    Source:
        Runs of 13 words: Brown et al. 2020, arXiv:2005.14165, app. C. Differs: there one run is enough.
    """
    if not prompts:
        raise DataError("no evaluation prompt to look for", fix="name the questions")
    if ngram_words < 1 or not 0.0 < largest_overlap <= 1.0:
        raise DataError(
            f"ngram_words is {ngram_words}, largest_overlap {largest_overlap}",
            why="a run has at least one word, and an overlap lies above 0 and up to 1",
        )
    turns = [[_words(turn.content) for turn in prompt.user_turns] for prompt in prompts]
    index = _Index(turns, ngram_words)
    num_training = 0
    for conversation in training:
        num_training += 1
        index.read(conversation)
    if not num_training:
        raise DataError("no training conversation to look in", why="nothing found would prove nothing")
    found = (
        index.verdict(prompt.id, own, largest_overlap=largest_overlap)
        for prompt, own in zip(prompts, turns, strict=True)
    )
    return LeakageReport(
        num_prompts=len(prompts),
        num_training=num_training,
        num_short=sum(all(len(turn) < ngram_words for turn in own) for own in turns),
        ngram_words=ngram_words,
        largest_overlap=largest_overlap,
        leaked=tuple(leak for leak in found if leak is not None),
    )


def require_no_leakage(report: LeakageReport) -> None:
    """Refuses an evaluation on prompts that were trained on.

    Raises:
        GateError: some prompt was found; the first ones are named with where they stand.
    """
    if report.leaked:
        named = "; ".join(f"{leak.id} ({leak.rule}) in {leak.found_in}" for leak in report.leaked[:3])
        raise GateError(
            f"{len(report.leaked)} of {report.num_prompts} evaluation prompts stand in the training data: {named}",
            why="a model is not judged fairly on what it was trained on",
            fix="leave these prompts out of the evaluation, or out of the training",
        )


class _Index:
    """What the prompts hold, and where in the training data it was first seen."""

    def __init__(self, turns: Sequence[Sequence[Words]], size: int) -> None:
        self.size = size
        self.whole: dict[tuple[Words, ...], str | None] = dict.fromkeys(tuple(own) for own in turns)
        self.turns: dict[Words, str | None] = {
            turn: None for own in turns for turn in own if len(turn) >= LEAST_TURN_WORDS
        }
        self.runs: dict[Words, str | None] = {run: None for own in turns for turn in own for run in self._runs(turn)}
        self.ends = {(run[0], run[-1]) for run in self.runs}

    def read(self, conversation: Conversation) -> None:
        """Notes what one training conversation shares with the prompts."""
        spoken = [(message.role, _words(message.content)) for message in conversation.messages]
        asked = tuple(words for role, words in spoken if role == "user")
        _note(self.whole, asked, conversation.id)
        for words in asked:
            _note(self.turns, words, conversation.id)
        for words in (words for role, words in spoken if role != "system"):
            # Most runs are dismissed by their first and last word, without being built.
            for start, ends in enumerate(zip(words, words[self.size - 1 :], strict=False)):
                if ends in self.ends:
                    _note(self.runs, words[start : start + self.size], conversation.id)

    def verdict(self, name: str, own: Sequence[Words], *, largest_overlap: float) -> LeakedPrompt | None:
        """The strictest rule by which a prompt was found."""
        overlaps = [self._overlap(turn) for turn in own]
        overlap, place = max(overlaps, key=lambda found: found[0], default=(0.0, ""))
        whole = self.whole[tuple(own)]
        if whole is not None:
            return LeakedPrompt(name, "exact", overlap, whole)
        turn = next((self.turns[turn] for turn in own if self.turns.get(turn) is not None), None)
        if turn is not None:
            return LeakedPrompt(name, "turn", overlap, turn)
        return LeakedPrompt(name, "overlap", overlap, place) if overlap >= largest_overlap else None

    def _overlap(self, turn: Words) -> tuple[float, str]:
        """Share of a turn's words in runs that were seen, and where the first was."""
        place = ""
        covered: set[int] = set()
        for start, run in enumerate(self._runs(turn)):
            seen = self.runs[run]
            if seen is not None:
                covered.update(range(start, start + self.size))
                place = place or seen
        return (len(covered) / len(turn) if turn else 0.0), place

    def _runs(self, turn: Words) -> list[Words]:
        return [turn[start : start + self.size] for start in range(len(turn) - self.size + 1)]


def _note(seen: dict[Key, str | None], key: Key, name: str) -> None:
    if seen.get(key, name) is None:
        seen[key] = name


def _words(text: str) -> Words:
    return tuple(normalised(text).split())
