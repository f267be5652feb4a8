"""Judges an answer by the facts of the world: intent, slots, sums, personality; no language model."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, cast

from distill.embedded.intents import Intent, intents, sentence
from distill.embedded.world import ARITHMETIC, CAFFEINE, PERSONALITIES, SLOT_VALUES, VEGAN, cafe
from distill.errors import DataError

_SPARE_WORDS = 6
_NUMERIC = ("counts", "people", "bills", "times")

Value = tuple[str, str]
"""Kind and text, as in ("drink", "latte")."""


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and if not, what is wrong with it."""

    is_right: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expectation:
    """What a right answer to one turn states and may state."""

    required: frozenset[Value]
    allowed: frozenset[Value]
    parts: frozenset[str]
    results: frozenset[str]
    max_words: int


def check_answer(facts: Mapping[str, Any], turn: int, answer: str) -> Verdict:
    """Judges the answer to assistant turn `turn` (from 0) of the dialogue that `facts` came with.

    An answer is right when it shows its intent's own words, states every value the intent asks for and
    none that does not belong, speaks in the asked personality and no other, and stops in time.

    Returns:
        The verdict; reasons are "intent", "slot:KIND", "arithmetic", "contradiction", "personality",
        "rambling", each at most once.

    Raises:
        DataError: the facts were not written by `draw` or `questions`, or have no such turn.
    """
    intent, personality, slots = _read(facts, turn)
    expectation = _expectation(intent.id, tuple(sorted(slots.items())))
    stated = stated_values(answer)
    values = intent.values(slots)
    sums = {values[name] for name in ARITHMETIC & values.keys()} - expectation.parts
    reasons = []
    if not all(key.search(answer) for key in intent.keys):
        reasons.append("intent")
    for kind, value in sorted(expectation.required - stated):
        reasons.append("arithmetic" if value in sums else f"slot:{kind}")
    if not _ends_in_its_result(answer, expectation):
        reasons.append("arithmetic")
    if stated - expectation.allowed:
        reasons.append("contradiction")
    if personalities_shown(answer) != {personality}:
        reasons.append("personality")
    if _rambles(answer, max_words=expectation.max_words):
        reasons.append("rambling")
    return Verdict(not reasons, tuple(dict.fromkeys(reasons)))


def stated_values(text: str) -> frozenset[Value]:
    """Every value of the world that the text mentions: prices, times, names, drinks, foods, days ..."""
    values: set[Value] = set()
    for match in _lexicon_pattern().finditer(text):
        found = match.group()
        if found[0] == "$":
            values.add(("price", found if "." in found else f"{found}.00"))
        elif found[0].isdigit():
            values.add(("time" if found.endswith("m") else "number", found))
        else:
            values.add(_lexicon()[found if found in _lexicon() else found.lower()])
    return frozenset(values)


def personalities_shown(text: str) -> set[str]:
    """The personalities whose marker words the text uses."""
    return {personality for personality, pattern in _marker_patterns().items() if pattern.search(text)}


def _read(facts: Mapping[str, Any], turn: int) -> tuple[Intent, str, dict[str, str]]:
    turns = facts.get("turns")
    if facts.get("checker") != "embedded" or not isinstance(turns, list) or not 0 <= turn < len(turns):
        raise DataError(
            f"turn {turn} of facts {dict(facts)!r:.120}",
            why="the embedded world's checker reads facts written by its own draw() and questions()",
            fix="pass the row's own facts and a turn counted from 0 over its answers",
        )
    entry = turns[turn]
    return intents()[entry["intent"]], str(facts["personality"]), cast(dict[str, str], entry["slots"])


@lru_cache(maxsize=50_000)
def _expectation(intent_id: str, slots: tuple[tuple[str, str], ...]) -> Expectation:
    """Required is what all personalities state, but for the parts of a sum; allowed is what any of them states."""
    intent = intents()[intent_id]
    answers = [intent.answer(personality, dict(slots)) for personality in PERSONALITIES]
    stated = [stated_values(answer) for answer in answers]
    values = intent.values(dict(slots))
    results = frozenset(values[name] for name in intent.derived if name not in intent.shown)
    parts = frozenset(values[name] for name in intent.shown) - results
    return Expectation(
        required=frozenset.intersection(*stated) - {("price", part) for part in parts},
        allowed=frozenset.union(*stated),
        parts=parts,
        results=results,
        max_words=max(len(answer.split()) for answer in answers) + _SPARE_WORDS,
    )


def _ends_in_its_result(answer: str, expectation: Expectation) -> bool:
    """Whether a sum comes after its parts: "$10 less $4.50 is $5.50" is not "$10 less $5.50 is $4.50"."""
    last_part = max((answer.rfind(part) for part in expectation.parts), default=-1)
    return last_part < 0 or any(answer.rfind(result) > last_part for result in expectation.results)


def _rambles(answer: str, *, max_words: int) -> bool:
    sentences = [part for part in re.split(r"[.!?]+(?:\s+|$)", answer.lower()) if part]
    is_repeated = len(set(sentences)) < len(sentences)
    return is_repeated or len(answer.split()) > max_words or "<|" in answer or "|>" in answer


@cache
def _lexicon() -> dict[str, Value]:
    """Words that name a value -> the value. Plurals name what their singular names."""
    lexicon: dict[str, Value] = {}
    for slot, table in SLOT_VALUES.items():
        if table not in _NUMERIC and slot != "friend":
            lexicon |= {text: (slot, text) for text in cafe()[table]}
    for food, entry in cafe()["foods"].items():
        lexicon |= {entry["plural"]: ("food", food), entry["taste"]: ("taste", entry["taste"])}
    for entry in cafe()["drinks"].values():
        lexicon[entry["taste"]] = ("taste", entry["taste"])
    for entry in cafe()["days"].values():
        lexicon[entry["special"]] = ("special", entry["special"])
    for kind, claims in (("vegan", VEGAN), ("caffeine", CAFFEINE)):
        lexicon |= {claim: (kind, claim) for claim in claims.values()}
    return lexicon


@cache
def _lexicon_pattern() -> re.Pattern[str]:
    words = sorted(_lexicon(), key=len, reverse=True)
    forms = dict.fromkeys(form for word in words for form in (word, sentence(word)))
    names = "|".join(re.escape(form) for form in forms)
    return re.compile(rf"\$\d+(?:\.\d\d)?|\b\d{{1,2}}:\d\d [ap]m\b|\b\d+\b|\b(?:{names})\b")


@cache
def _marker_patterns() -> dict[str, re.Pattern[str]]:
    return {
        name: re.compile(rf"\b(?:{'|'.join(map(re.escape, entry['markers']))})\b", re.IGNORECASE)
        for name, entry in cafe()["personalities"].items()
    }
