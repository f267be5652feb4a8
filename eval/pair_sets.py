"""Preference pairs to fit and measure reward models on, by source, each with what it must not be told apart from."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from distill.data import PreferencePair, read_pairs
from distill.data.personality_chat import personality_chat_strata
from distill.data.records import Conversation
from distill.data.splits import divided
from distill.errors import DataError
from distill.files import fingerprint
from distill.settings import Settings
from eval.coffee_pairs import coffee_pairs
from eval.judges.embedded_judge import embedded_pairs


class PairSetSettings(Settings):
    """Where pairs come from."""

    source: Literal["embedded", "personality-chat", "taskmaster4-coffee", "files"] = Field(
        description="the embedded world's right answers against wrong ones; the public sets; a file of pairs"
    )
    path: Path | None = Field(None, description="folder of a public set, or the file of pairs")
    num_pairs: int | None = Field(None, gt=9, description="pairs taken, drawn by the seed; none: all")
    body: str | None = Field(None, description="folder or hub id of the model to put the head on; none: the stage's")

    @model_validator(mode="after")
    def _names_its_place(self) -> Self:
        if self.source == "embedded" and (self.path is not None or self.num_pairs is None):
            raise ValueError("source embedded reads no path and needs num_pairs: it draws as many as you ask for")
        if self.source != "embedded" and self.path is None:
            raise ValueError(f"path is missing: source {self.source} reads a folder or file (path=FOLDER)")
        return self


@dataclass(frozen=True)
class GroupedPair:
    """A pair; `unit` says with which others it is held out, `cluster` with which it is resampled."""

    pair: PreferencePair
    unit: str
    cluster: str


def read_pair_set(settings: PairSetSettings, *, seed: int) -> list[GroupedPair]:
    """The pairs of a source, the same ones for the same seed.

    Raises:
        DataError: the source is missing or wrong, or holds fewer than ten pairs.
    """
    pairs = _READERS[settings.source](settings, seed)
    if settings.num_pairs is not None and len(pairs) > settings.num_pairs:
        pairs = random.Random(f"pairs/{seed}").sample(pairs, settings.num_pairs)
    if len(pairs) < 10:
        raise DataError(
            f"{settings.source} gives {len(pairs)} pairs", why="too few to fit on some and measure on others"
        )
    return pairs


def fold_of(pair: GroupedPair, num_folds: int) -> int:
    """In which of the folds a pair is held out; pairs of one unit are together."""
    return int(fingerprint(pair.unit)[:8], 16) % num_folds


def _embedded(settings: PairSetSettings, seed: int) -> list[GroupedPair]:
    assert settings.num_pairs is not None, "the settings' validator asks for it"
    pairs = embedded_pairs("prompts", num_dialogues=settings.num_pairs, seed=seed)
    dialogues = [pair.id.rpartition(":")[0] for pair in pairs]
    return [GroupedPair(pair, name, name) for pair, name in zip(pairs, dialogues, strict=True)]


def _coffee(settings: PairSetSettings, seed: int) -> list[GroupedPair]:
    assert settings.path is not None
    return [GroupedPair(pair, context, context) for pair, context in coffee_pairs(settings.path)]


def _personality_chat(settings: PairSetSettings, seed: int) -> list[GroupedPair]:
    """One pair a question: half against another personality's answer, half against another scenario's.

    Questions of the teacher's half are left out, so that a body trained on them has not seen the right answers. A
    question is held out by itself, and resampled with its scenario, whose questions have the same answers.
    """
    assert settings.path is not None
    groups = [
        group
        for split, parts in divided(personality_chat_strata(settings.path)).items()
        for group in parts
        if split != "teacher"
    ]
    chance = random.Random(f"personality-chat/{seed}")
    every = [one for group in groups for one in group.conversations]
    pairs = []
    for group in groups:
        right = chance.choice(group.conversations)
        rejected = _wrong(right, group.conversations, every, chance)
        pair = PreferencePair(right.id, right.messages[:2], _answer(right), rejected)
        pairs.append(GroupedPair(pair, group.key, str(right.facts["scenario"])))
    return pairs


def _wrong(
    right: Conversation, of_question: Sequence[Conversation], every: Sequence[Conversation], chance: random.Random
) -> str:
    """Half the time another personality's answer, where one differs; else this one's to another scenario."""
    others = [text for text in map(_answer, of_question) if text != _answer(right)]
    if others and chance.random() < 0.5:
        return chance.choice(others)
    while True:
        other = chance.choice(every)
        is_same_voice = other.facts["personality"] == right.facts["personality"]
        if is_same_voice and other.facts["scenario"] != right.facts["scenario"] and _answer(other) != _answer(right):
            return _answer(other)


def _answer(conversation: Conversation) -> str:
    return conversation.messages[-1].content


def _files(settings: PairSetSettings, seed: int) -> list[GroupedPair]:
    assert settings.path is not None
    pairs = read_pairs(settings.path)
    names = [fingerprint([message.to_json() for message in pair.prompt]) for pair in pairs]
    return [GroupedPair(pair, name, name) for pair, name in zip(pairs, names, strict=True)]


_READERS: dict[str, Callable[[PairSetSettings, int], list[GroupedPair]]] = {
    "embedded": _embedded,
    "personality-chat": _personality_chat,
    "taskmaster4-coffee": _coffee,
    "files": _files,
}
