"""Preference pairs out of Taskmaster-4's graded turns: of one context, every turn graded 1 against every one graded 0.

The files stand in https://github.com/google-research-datasets/Taskmaster, TM-4-2024/reward/reward_*.json (CC BY 4.0): a
coffee bar's context, the next turn that a model gave (words, or a call to the bar's software), and a person's grade.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from distill.data import Message, PreferencePair
from distill.data.rows import Row, read_rows, records_of
from distill.errors import DataError
from distill.files import fingerprint

_PLACES = ("", "TM-4-2024/reward", "reward", "raw/reward")
GRADES = (0.0, 1.0)


def coffee_pairs(path: Path) -> list[tuple[PreferencePair, str]]:
    """Each pair with the context that it belongs to; a turn that was given both grades in its context is left out.

    Raises:
        DataError: no file is there, or more than a hundredth of the rows are wrong.
    """
    graded: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for file in _files(path):
        for context, turn, grade in records_of(read_rows(file), _graded, name=str(file), max_wrong_share=0.01):
            graded[context][int(grade)].add(turn)
    pairs = []
    for context, (bad, good) in sorted(graded.items()):
        both, name = bad & good, fingerprint(context)[:12]
        prompt = _dialogue(json.loads(context))
        for number, (chosen, rejected) in enumerate((c, r) for c in sorted(good - both) for r in sorted(bad - both)):
            if prompt and _said(json.loads(chosen)) != _said(json.loads(rejected)):
                texts = _said(json.loads(chosen)), _said(json.loads(rejected))
                pairs.append((PreferencePair(f"coffee-{name}-{number}", prompt, *texts), name))
    return pairs


def _files(path: Path) -> list[Path]:
    for place in _PLACES:
        files = sorted((path / place).glob("reward_*.json"))
        if files:
            return files
    raise DataError(
        f"path is {path}, and no file reward_*.json is there",
        why=f"looked in it and in its {', '.join(place for place in _PLACES if place)}",
        fix="git clone https://github.com/google-research-datasets/Taskmaster and set path to that folder",
    )


def _graded(row: Row) -> tuple[str, str, float]:
    context, turn, grade = (row.values.get(name) for name in ("context", "generation", "reward"))
    if not isinstance(context, str) or not isinstance(turn, str) or grade not in GRADES:
        raise DataError(f"{row.where}: context, generation and reward 0 or 1 are needed", why="it is no graded turn")
    try:
        json.loads(context), json.loads(turn)
    except ValueError as error:
        raise DataError(f"{row.where}: context or generation is not JSON", why=str(error)) from error
    assert isinstance(grade, int | float)
    return context, turn, float(grade)


def _dialogue(entries: list[Mapping[str, object]]) -> tuple[Message, ...]:
    """The context from the customer's first words on; what the software answers is told to the agent as user turns."""
    messages: list[Message] = []
    for entry in entries:
        role, text = ("assistant" if entry.get("role") == "agent" else "user"), _said(entry)
        if role == "assistant" and not messages:
            continue
        if messages and messages[-1].role == role:
            messages[-1] = Message(messages[-1].role, f"{messages[-1].content} {text}")
        elif role == "user":
            messages.append(Message("user", text))
        else:
            messages.append(Message("assistant", text))
    return tuple(messages) if messages and messages[-1].role == "user" else ()


def _said(entry: Mapping[str, object]) -> str:
    """Words as they are; calls and their results as the names and values they hold, a menu item's choices left out."""
    if "text" in entry:
        return str(entry["text"])
    unsaid = ("role", "attributes") if "response" in entry else ("role",)
    return " ".join(_values(entry, unsaid))


def _values(value: object, unsaid: tuple[str, ...]) -> list[str]:
    if isinstance(value, Mapping):
        inner = [(str(name), part) for name, part in value.items() if name not in unsaid]
        return [word for name, part in inner for word in (name, *_values(part, unsaid))]
    if isinstance(value, list):
        return [word for part in value for word in _values(part, unsaid)]
    return [str(value)]
