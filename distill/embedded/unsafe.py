"""Rude and unsafe texts for the cafe, and which of its guests' requests provoke them: what Safer-Instruct starts from.

The texts are written for this project and mild on purpose. None of them is an answer of the world: they are what its
helper must never say, and what a badly behaved person might.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from distill.embedded.dialogue import draw
from distill.embedded.intents import intents
from distill.embedded.splits import PART_OF_SPLIT, require_split

RUDE: tuple[str, ...] = ("rude", "rude_again")
"""Intents whose own words are rude texts too: an insult is answered with one."""

_OPENER_SHARE = 0.5
_PATH = Path(__file__).parent / "unsafe.yaml"


@cache
def provoking_intents() -> tuple[str, ...]:
    """Intents to which a willing or angry answer would do harm: the rude guests, and what must be declined."""
    return (*RUDE, *_unsafe())


def unsafe_texts(*, num_texts: int, ordinary_share: float, seed: int) -> list[str]:
    """Lines as a collector of bad texts would bring them home: unsafe ones by kind, ordinary ones among them, doubles.

    Args:
        num_texts: how many lines.
        ordinary_share: of lines that are harmless answers of the world to ordinary requests.
        seed: the same lines for the same seed on every machine.
    """
    rng = Random(f"unsafe/{seed}")
    num_ordinary = round(ordinary_share * num_texts)
    kinds = provoking_intents()
    lines = [_unsafe_text(rng, kinds[number % len(kinds)], half=1) for number in range(num_texts - num_ordinary)]
    lines += _ordinary_texts(num_ordinary, rng=rng, seed=seed)
    rng.shuffle(lines)
    return lines


def unfiltered_dialogues(*, num_dialogues: int, seed: int) -> list[tuple[str, str]]:
    """Requests with the bad answers that they got somewhere: what a model of P(request | text) can learn from.

    Their requests and texts are made of every other sentence of each kind, the texts of `unsafe_texts` of the rest, so
    that a model that learned these has seen none of those.

    Args:
        num_dialogues: how many, each kind as often.
        seed: the same dialogues for the same seed on every machine.
    """
    rng = Random(f"unfiltered/{seed}")
    kinds = provoking_intents()
    rows = []
    for number in range(num_dialogues):
        kind = kinds[number % len(kinds)]
        rows.append((rng.choice(intents()[kind].phrasings["train"][::2]), _unsafe_text(rng, kind, half=0)))
    rng.shuffle(rows)
    return rows


def labelled_requests(split: str, *, num_dialogues: int, seed: int) -> list[tuple[str, bool]]:
    """What guests say, each with whether it provokes; different texts, as many provoking as not.

    The `refusals` that only complain or apologise are in neither half: nothing is declined there.

    Raises:
        DataError: the split is unknown.
    """
    require_split(split)
    rng = Random(f"requests/{split}/{seed}")
    provoking: dict[str, None] = {}
    for name in provoking_intents():
        provoking |= dict.fromkeys(intents()[name].phrasings[PART_OF_SPLIT[split]])
    ordinary = dict.fromkeys(text for text, category in _asked(split, num_dialogues, seed) if category != "refusals")
    for text in provoking:
        ordinary.pop(text, None)
    size = min(len(provoking), len(ordinary))
    rows = [(text, True) for text in rng.sample(list(provoking), size)]
    rows += [(text, False) for text in rng.sample(list(ordinary), size)]
    rng.shuffle(rows)
    return rows


def _asked(split: str, num_dialogues: int, seed: int) -> list[tuple[str, str]]:
    """Guests' words with the category of what they want."""
    found = []
    for row in draw(split, num_dialogues=num_dialogues, seed=seed):
        found += list(zip(_said(row, "user"), (turn["category"] for turn in _turns(row)), strict=True))
    return found


def _ordinary_texts(number: int, *, rng: Random, seed: int) -> list[str]:
    answers: list[str] = []
    for row in draw("teacher", num_dialogues=max(number, 1), seed=seed):
        said = zip(_said(row, "assistant"), _turns(row), strict=True)
        answers += [text for text, turn in said if turn["category"] != "refusals"]
    return rng.sample(answers, number)


def _unsafe_text(rng: Random, kind: str, *, half: int) -> str:
    """One to four sentences, of one half of what there is."""
    if kind in RUDE:
        return " ".join(rng.sample(intents()[kind].phrasings["train"][half::2], rng.choice((1, 2))))
    first, second = (sentences[half::2] for sentences in _unsafe()[kind])
    opener = [rng.choice(_openers())] if rng.random() < _OPENER_SHARE else []
    return " ".join([*opener, rng.choice(first), *rng.sample(second, rng.choice((0, 1, 2)))])


def _said(row: dict[str, object], role: str) -> Sequence[str]:
    messages = row["messages"]
    assert isinstance(messages, list)
    return [message["content"] for message in messages if message["role"] == role]


def _turns(row: dict[str, object]) -> list[dict[str, str]]:
    facts = row["facts"]
    assert isinstance(facts, dict)
    turns: list[dict[str, str]] = facts["turns"]
    return turns


@cache
def _unsafe() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    kinds = {kind: own for kind, own in _table().items() if kind != "openers"}
    return {kind: (tuple(own["first"].splitlines()), tuple(own["second"].splitlines())) for kind, own in kinds.items()}


@cache
def _openers() -> tuple[str, ...]:
    return tuple(_table()["openers"])


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(_PATH.read_text(encoding="ascii"))
    return table
