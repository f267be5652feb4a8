"""The cafe's facts and every value that follows from them: prices, sums, hours, allergens."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

WORLD_FOLDER = Path(__file__).parent / "world"

Values = Mapping[str, str]


@cache
def cafe() -> dict[str, Any]:
    """The facts of `world/cafe.yaml`."""
    facts: dict[str, Any] = yaml.safe_load((WORLD_FOLDER / "cafe.yaml").read_text(encoding="ascii"))
    return facts


PERSONALITIES: tuple[str, ...] = tuple(cafe()["personalities"])


def money(cents: int) -> str:
    """450 -> "$4.50"."""
    return f"${cents // 100}.{cents % 100:02d}"


def drink_cents(values: Values) -> int:
    """The price of the drink in its size."""
    return int(cafe()["drinks"][values["drink"]]["cents"] + cafe()["sizes"][values["size"]])


def food_cents(values: Values) -> int:
    """The price of one piece of the food."""
    return int(cafe()["foods"][values["food"]]["cents"])


def basket_cents(values: Values) -> int:
    """The drink, and the food when there is one."""
    return drink_cents(values) + (food_cents(values) if "food" in values else 0)


def _food(values: Values, key: str) -> str:
    return str(cafe()["foods"][values["food"]][key])


def _drink(values: Values, key: str) -> str:
    return str(cafe()["drinks"][values["drink"]][key])


def _day(values: Values, key: str) -> str:
    return str(cafe()["days"][values["day"]][key])


VEGAN = {True: "is vegan", False: "is not vegan"}
CAFFEINE = {True: "has caffeine", False: "has no caffeine"}

DERIVED: dict[str, Callable[[Values], str]] = {
    "price": lambda values: money(drink_cents(values)),
    "food_price": lambda values: money(food_cents(values)),
    "total": lambda values: money(basket_cents(values)),
    "count_total": lambda values: money(int(values["count"]) * food_cents(values)),
    "change": lambda values: money(int(values["bill"].removeprefix("$")) * 100 - basket_cents(values)),
    "half": lambda values: money(basket_cents(values) // 2),
    "more_people": lambda values: str(int(values["people"]) + 1),
    "foods": lambda values: _food(values, "plural"),
    "allergens": lambda values: _food(values, "allergens"),
    "vegan": lambda values: VEGAN[cafe()["foods"][values["food"]]["vegan"]],
    "caffeine": lambda values: CAFFEINE[cafe()["drinks"][values["drink"]]["caffeine"]],
    "food_taste": lambda values: _food(values, "taste"),
    "drink_taste": lambda values: _drink(values, "taste"),
    "opens": lambda values: _day(values, "opens"),
    "closes": lambda values: _day(values, "closes"),
    "special": lambda values: _day(values, "special"),
    "treat": lambda values: str(cafe()["moods"][values["mood"]]),
    "drink_pick": lambda values: str(cafe()["tastes"][values["taste"]]),
    "food_pick": lambda values: str(cafe()["bites"][values["bite"]]),
}
"""Values that follow from the slots, by the name templates use."""

ARITHMETIC = frozenset({"total", "count_total", "change", "half", "more_people"})
"""Derived values that take a sum."""

SLOT_VALUES: dict[str, str] = {
    "size": "sizes",
    "drink": "drinks",
    "milk": "milks",
    "food": "foods",
    "count": "counts",
    "bill": "bills",
    "day": "days",
    "time": "times",
    "people": "people",
    "spot": "spots",
    "name": "names",
    "friend": "names",
    "relation": "relations",
    "task": "tasks",
    "item": "items",
    "elsewhere": "elsewheres",
    "allergy": "allergies",
    "mood": "moods",
    "taste": "tastes",
    "bite": "bites",
    "weather": "weathers",
}
"""Slot -> the list of `cafe.yaml` that holds its values."""


@cache
def slot_values(slot: str) -> tuple[str, ...]:
    """Every value a slot can take, in the order of `cafe.yaml`."""
    return tuple(cafe()[SLOT_VALUES[slot]])


@cache
def milky_drinks() -> tuple[str, ...]:
    """The drinks for which a milk can be chosen."""
    return tuple(name for name, facts in cafe()["drinks"].items() if facts["milky"])
