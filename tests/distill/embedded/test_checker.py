"""Laws of the judge: the world's answers are right, everything else is caught, for the reason it is wrong."""

import random

import pytest

from distill.embedded import PERSONALITIES, check_answer, draw
from distill.embedded.checker import personalities_shown, stated_values
from distill.embedded.intents import intents
from distill.embedded.world import slot_values
from distill.errors import DataError

LATTE = {
    "checker": "embedded",
    "personality": "brisk",
    "turns": [{"intent": "add_food", "slots": {"size": "large", "drink": "latte", "food": "oat cookie"}}],
}


def judged_turns(split, *, num_dialogues, seed):
    """(facts, turn, intent, personality, slots, answer) of every turn."""
    for row in draw(split, num_dialogues=num_dialogues, seed=seed):
        answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
        for turn, (entry, answer) in enumerate(zip(row["facts"]["turns"], answers, strict=True)):
            intent = intents()[entry["intent"]]
            yield row["facts"], turn, intent, row["facts"]["personality"], entry["slots"], answer


TURNS = list(judged_turns("test", num_dialogues=400, seed=0))


@pytest.mark.slow
@pytest.mark.parametrize("split", ["teacher", "test"])
def test_the_worlds_own_answers_are_right(split):
    for facts, turn, _, _, _, answer in judged_turns(split, num_dialogues=1000, seed=1):
        assert check_answer(facts, turn, answer).reasons == ()


@pytest.mark.slow
def test_answers_of_another_intent_are_caught():
    one_of_each = {(intent.id, personality): answer for _, _, intent, personality, _, answer in TURNS}
    rng = random.Random(0)
    num_missed = num_checked = 0
    for facts, turn, intent, personality, _, _ in TURNS:
        for other in rng.sample(sorted(intents()), 12):
            if other != intent.id and (other, personality) in one_of_each:
                num_checked += 1
                num_missed += check_answer(facts, turn, one_of_each[other, personality]).is_right
    assert num_checked > 5_000
    assert num_missed <= 0.001 * num_checked


def test_answers_in_another_personality_are_caught():
    for facts, turn, intent, personality, slots, _ in TURNS:
        for other in PERSONALITIES:
            verdict = check_answer(facts, turn, intent.answer(other, slots))
            assert verdict.is_right == (other == personality)
            assert other == personality or "personality" in verdict.reasons


def test_answers_with_a_swapped_slot_are_caught():
    num_swapped = 0
    for facts, turn, intent, personality, slots, answer in TURNS:
        for slot in slots:
            for value in slot_values(slot)[:3]:
                swapped = intent.answer(personality, {**slots, slot: value})
                if swapped != answer:
                    num_swapped += 1
                    assert not check_answer(facts, turn, swapped).is_right
    assert num_swapped > 1000


@pytest.mark.parametrize("answer", ["", "Okay.", "Of course, dear.", "Sure, Right, Okay, Noted, Done."])
def test_empty_and_constant_answers_are_caught(answer):
    assert not any(check_answer(facts, turn, answer).is_right for facts, turn, *_ in TURNS)


def test_a_right_answer_need_not_be_the_worlds_own():
    """Large latte $4.50 plus oat cookie $2.00 is $6.50."""
    assert check_answer(LATTE, 0, "Sure, an oat cookie goes with it, together $6.50.").is_right


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        ("Noted, plus an oat cookie, $6.50.", ("intent",)),
        ("Noted, plus one more. Together $6.50.", ("slot:food",)),
        ("Noted, plus an oat cookie. Together $6.50 with its $2.00.", ("arithmetic",)),
        ("Noted, plus an oat cookie. Together $7.50.", ("arithmetic", "contradiction")),
        ("Noted, plus an oat cookie. Together a lot.", ("arithmetic",)),
        ("Noted, plus an oat cookie and a date bar. Together $6.50.", ("contradiction",)),
        ("Plus an oat cookie. Together $6.50.", ("personality",)),
        ("Noted, dear, plus an oat cookie. Together $6.50.", ("personality",)),
        ("Noted, plus an oat cookie. Together $6.50. Noted, plus an oat cookie.", ("rambling",)),
        ("Noted, plus an oat cookie. Together $6.50.<|end|>", ("rambling",)),
        ("Noted, plus an oat cookie. Together $6.50" + " and so on" * 12, ("rambling",)),
    ],
)
def test_every_fault_is_named(answer, reasons):
    assert check_answer(LATTE, 0, answer).reasons == reasons


def test_every_answer_shows_its_own_personality_only():
    for intent in intents().values():
        for personality, template in intent.answers.items():
            assert personalities_shown(template) == {personality}, (intent.id, template)


def test_stated_values_known_answer():
    """The longer name wins: a chai latte is no latte, an almond tart is not almond milk; $10 is $10.00."""
    text = "A chai latte with oat milk and 2 almond tarts at 9:30 am for Ada, $10 please."
    assert stated_values(text) == {
        ("drink", "chai latte"),
        ("milk", "oat milk"),
        ("number", "2"),
        ("food", "almond tart"),
        ("time", "9:30 am"),
        ("name", "Ada"),
        ("price", "$10.00"),
    }


@pytest.mark.parametrize("turn", [-1, 1])
def test_check_answer_refuses_a_turn_that_is_not_there(turn):
    with pytest.raises(DataError, match=f"turn {turn} of facts"):
        check_answer(LATTE, turn, "Okay.")


def test_check_answer_refuses_facts_of_another_checker():
    with pytest.raises(DataError, match="written by its own draw"):
        check_answer({"checker": "known-answer"}, 0, "Okay.")
