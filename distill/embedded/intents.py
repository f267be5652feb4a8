"""Everything a guest may want: how it is asked, how each personality answers, what it takes and leaves behind."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import yaml

from distill.embedded.world import DERIVED, PERSONALITIES, WORLD_FOLDER, Values

CATEGORIES: tuple[str, ...] = (
    "smalltalk",
    "orders",
    "sums",
    "menu",
    "visiting",
    "bookings",
    "notes",
    "refusals",
)

Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")

_FIELD = re.compile(r"\{(\w+)\}")
_FIELD_AND_ARTICLE = re.compile(r"(\b[Aa] )?\{(\w+)\}")


@dataclass(frozen=True)
class Intent:
    """One thing a guest may want.

    Args:
        id: unique name.
        category: one of `CATEGORIES`.
        phrasings: the ways of asking, by part; a phrasing stands in one part only.
        answers: personality -> answer template.
        keys: patterns of which each must be found in an answer to this intent.
        new: slots that the question fills.
        needs: the frame of earlier slots that the question refers to, if any.
        sets: the frame that the question leaves behind for later turns, if any.
        repeats: intents after which the question would repeat what was said, or its answer no longer hold.
        clears: whether the question ends the frame it needs.
        place: "first" opens a dialogue only, "last" ends it only, "any" stands anywhere.
        derived: names of derived values that the templates mention.
        shown: those of them that the answers mention on the way to a sum, and a right answer may leave out.
    """

    id: str
    category: str
    phrasings: Mapping[Part, tuple[str, ...]]
    answers: Mapping[str, str]
    keys: tuple[re.Pattern[str], ...]
    new: tuple[str, ...]
    needs: str | None
    sets: str | None
    repeats: frozenset[str]
    clears: bool
    place: str
    derived: tuple[str, ...]
    shown: frozenset[str]

    def values(self, slots: Values) -> dict[str, str]:
        """The slots and every derived value that templates of this intent mention."""
        return {**slots, **{name: DERIVED[name](slots) for name in self.derived}}

    def answer(self, personality: str, slots: Values) -> str:
        """The world's own answer."""
        return sentence(render(self.answers[personality], self.values(slots)))


def render(template: str, values: Values) -> str:
    """Fills `{slot}` fields; "a {slot}" becomes "an ..." before a vowel."""
    return _FIELD_AND_ARTICLE.sub(lambda match: _with_article(match.group(1), values[match.group(2)]), template)


def _with_article(article: str | None, value: str) -> str:
    if article and value[0] in "aeiou":
        return f"{article[0]}n {value}"
    return f"{article or ''}{value}"


def sentence(text: str) -> str:
    """The text with every sentence begun by a capital letter."""
    return re.sub(r"(^|[.!?] )([a-z])", lambda match: match.group(1) + match.group(2).upper(), text)


@cache
def intents() -> dict[str, Intent]:
    """Every intent by id, in the order of the categories and of their files."""
    table: dict[str, Intent] = {}
    for category in CATEGORIES:
        text = (WORLD_FOLDER / "intents" / f"{category}.yaml").read_text(encoding="ascii")
        for intent_id, entry in yaml.safe_load(text).items():
            table[intent_id] = _intent(intent_id, category, entry)
    return table


def _intent(intent_id: str, category: str, entry: Mapping[str, Any]) -> Intent:
    phrasings: dict[Part, tuple[str, ...]] = {part: tuple(entry["ask"][part].splitlines()) for part in PARTS}
    answers = {personality: str(entry["answer"][personality]) for personality in PERSONALITIES}
    templates = [*answers.values(), *(text for texts in phrasings.values() for text in texts)]
    fields = {field for template in templates for field in _FIELD.findall(template)}
    return Intent(
        id=intent_id,
        category=category,
        phrasings=phrasings,
        answers=answers,
        keys=tuple(re.compile(rf"\b(?:{key})\b", re.IGNORECASE) for key in entry["key"]),
        new=tuple(entry.get("new", ())),
        needs=entry.get("needs"),
        sets=entry.get("sets"),
        repeats=frozenset(entry.get("repeats", ())),
        clears=bool(entry.get("clears", False)),
        place=str(entry.get("place", "any")),
        derived=tuple(sorted(fields & DERIVED.keys())),
        shown=frozenset(entry.get("shown", ())),
    )
