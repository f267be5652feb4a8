import pytest
from hypothesis import given

from distill.data import Message
from distill.decoding.principle import contexts
from distill.errors import DataError
from tests.strategies import messages

ASK = Message("user", "Tea?")


def test_the_principle_becomes_the_system_message():
    assert contexts([ASK], "Be kind.") == ([Message("system", "Be kind."), ASK], [ASK])


def test_the_principle_follows_a_system_message_that_both_contexts_keep():
    cafe = Message("system", "You serve tea.")
    assert contexts([cafe, ASK], "Be kind.") == ([Message("system", "You serve tea.\n\nBe kind."), ASK], [cafe, ASK])


def test_without_one_the_system_message_is_the_principle():
    kind = Message("system", "Be kind.")
    assert contexts([kind, ASK], None) == ([kind, ASK], [ASK])


def test_a_contrast_is_the_system_message_of_the_reading_without_the_principle():
    brisk, both = Message("system", "Be brisk."), Message("system", "Be brisk.\n\nBe kind.")
    rude = Message("system", "Be rude.")
    assert contexts([both, ASK], None, contrast="Be brisk.") == ([both, ASK], [brisk, ASK])
    assert contexts([brisk, ASK], "Be kind.", contrast="Be rude.") == (
        [both, ASK],
        [Message("system", "Be rude."), ASK],
    )
    assert contexts([ASK], "Be kind.", contrast="Be rude.")[1] == [rude, ASK]


@given(dialogue=messages())
def test_both_contexts_hold_the_same_turns(dialogue):
    principled, plain = contexts(dialogue, "Be kind.")
    turns = [message for message in dialogue if message.role != "system"]
    assert principled[1:] == turns
    assert [message for message in plain if message.role != "system"] == turns


def test_a_dialogue_without_a_principle_is_refused():
    with pytest.raises(DataError, match=r"'Tea\?' has no system message\nwhy: .*\nfix: give a principle"):
        contexts([ASK], None)
