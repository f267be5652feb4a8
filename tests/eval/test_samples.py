import pytest

from distill.data import Conversation, Message
from distill.errors import DataError
from eval.samples import side_by_side, spread

FACTS = {"checker": "known-answer", "personality": "witty", "answers": {"witty": "Never."}}


def conversations(count: int) -> list[Conversation]:
    turns = (Message("system", "Be witty."), Message("user", "Do you eat?"), Message("assistant", "Never."))
    return [Conversation(f"row-{number}", turns, FACTS) for number in range(count)]


def test_samples_hold_every_models_answer_with_its_verdict():
    (sample,) = side_by_side(conversations(1), {"teacher": [["never"]], "student": [["Always!"]]}, num_samples=3)
    assert (sample.name, sample.system) == ("row-0", "Be witty.")
    (turn,) = sample.turns
    assert (turn.prompt, turn.reference) == ("Do you eat?", "Never.")
    assert [(a.model, a.text, a.is_right, a.reasons) for a in turn.answers] == [
        ("teacher", "never", True, ()),
        ("student", "Always!", False, ("scenario",)),
    ]


def test_references_given_beside_take_the_place_of_the_conversations_own():
    questions = [row.without_answers() for row in conversations(1)]
    (sample,) = side_by_side(questions, {"m": [["never"]]}, num_samples=1, references=[["Not once."]])
    assert sample.turns[0].reference == "Not once."
    (sample,) = side_by_side(questions, {"m": [["never"]]}, num_samples=1)
    assert sample.turns[0].reference is None


def test_answers_that_cannot_be_checked_have_no_verdict():
    plain = [Conversation("row", (Message("user", "hm?"),))]
    (sample,) = side_by_side(plain, {"m": [["x"]]}, num_samples=1)
    assert sample.turns[0].answers[0].is_right is None


def test_places_are_spread_evenly_and_never_twice():
    """Ten places in two stretches of five: their middles are 2.5 and 7.5."""
    assert spread(10, 2) == [2, 7]
    assert spread(3, 9) == [0, 1, 2]
    assert spread(0, 4) == []
    assert all(len(set(spread(n, k))) == min(n, k) for n in range(1, 30) for k in range(1, 30))


def test_a_model_with_missing_answers_is_refused():
    with pytest.raises(DataError, match="student answered 1 conversations of 2"):
        side_by_side(conversations(2), {"student": [["x"]]}, num_samples=1)
