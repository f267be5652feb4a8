"""The sums of the world, by hand."""

import pytest

from distill.embedded.world import DERIVED, SLOT_VALUES, cafe, milky_drinks, money, slot_values

LARGE_MOCHA = {"size": "large", "drink": "mocha"}


@pytest.mark.parametrize(
    ("name", "slots", "value"),
    [
        ("price", LARGE_MOCHA, "$5.00"),
        ("total", {**LARGE_MOCHA, "food": "almond tart"}, "$8.50"),
        ("half", {**LARGE_MOCHA, "food": "almond tart"}, "$4.25"),
        ("change", {**LARGE_MOCHA, "bill": "$20"}, "$15.00"),
        ("change", {**LARGE_MOCHA, "food": "almond tart", "bill": "$10"}, "$1.50"),
        ("count_total", {"count": "3", "food": "egg sandwich"}, "$13.50"),
        ("foods", {"food": "egg sandwich"}, "egg sandwiches"),
        ("more_people", {"people": "4"}, "5"),
        ("opens", {"day": "Sunday"}, "9:00 am"),
        ("vegan", {"food": "date bar"}, "is vegan"),
        ("caffeine", {"drink": "mint tea"}, "has no caffeine"),
    ],
)
def test_derived_known_answer(name, slots, value):
    """Large mocha 4.00 + 1.00; almond tart 3.50; egg sandwich 4.50."""
    assert DERIVED[name](slots) == value


def test_money_writes_two_digits_of_cents():
    assert (money(5), money(450), money(1250)) == ("$0.05", "$4.50", "$12.50")


def test_every_list_holds_different_values():
    for slot in SLOT_VALUES:
        assert len(set(slot_values(slot))) == len(slot_values(slot)) >= 2


def test_suggestions_are_on_the_menu():
    assert {*cafe()["moods"].values(), *cafe()["tastes"].values(), *milky_drinks()} <= set(cafe()["drinks"])
    assert set(cafe()["bites"].values()) <= set(cafe()["foods"])


def test_the_smallest_bill_covers_the_dearest_basket():
    """Large mocha 5.00 + egg sandwich 4.50 = 9.50 <= 10."""
    assert DERIVED["change"]({**LARGE_MOCHA, "food": "egg sandwich", "bill": "$10"}) == "$0.50"
