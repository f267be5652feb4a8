"""Laws of the intents and of how their templates are filled."""

from collections import Counter

from distill.embedded.intents import CATEGORIES, intents, render, sentence


def test_sixty_intents_in_eight_categories():
    counts = Counter(intent.category for intent in intents().values())
    assert set(counts) == set(CATEGORIES)
    assert len(counts) == 8
    assert sum(counts.values()) >= 60
    assert min(counts.values()) >= 8


def test_every_frame_that_is_needed_is_set_somewhere():
    needed = {intent.needs for intent in intents().values()} - {None}
    assert needed <= {intent.sets for intent in intents().values()}


def test_repeats_name_intents():
    assert all(intent.repeats <= set(intents()) for intent in intents().values())


def test_article_follows_the_sound():
    assert render("A {food} and a {drink}", {"food": "oat cookie", "drink": "latte"}) == "An oat cookie and a latte"


def test_sentences_begin_with_capitals_but_times_do_not_end_them():
    assert sentence("sweet? try it. at 9:30 am, yes! fine") == "Sweet? Try it. At 9:30 am, yes! Fine"


def test_answers_agree_on_their_world():
    """Whatever the personality, the same intent with the same slots states derived values of one world."""
    order = intents()["order_drink"]
    slots = {"size": "small", "drink": "green tea"}
    assert all("$2.50" in order.answer(personality, slots) for personality in order.answers)
