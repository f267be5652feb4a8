import pytest

from distill.data.records import Conversation, Message, PreferencePair, messages_from
from distill.errors import DataError

SYSTEM, USER, ANSWER = Message("system", "Be kind."), Message("user", "Hi"), Message("assistant", "Hello")


def test_without_answers_keeps_id_facts_system_and_user_turns():
    conversation = Conversation("a", (SYSTEM, USER, ANSWER, USER), {"right": "Hello"})
    assert conversation.without_answers() == Conversation("a", (SYSTEM, USER, USER), {"right": "Hello"})


def test_user_turns_and_system_are_found():
    conversation = Conversation("a", (SYSTEM, USER, ANSWER))
    assert (conversation.system, conversation.user_turns) == (SYSTEM, (USER,))
    assert Conversation("b", (USER,)).system is None


def test_conversation_row_holds_id_messages_and_facts():
    assert Conversation("a", (USER,), {"n": 1}).to_json() == {
        "id": "a",
        "messages": [{"role": "user", "content": "Hi"}],
        "facts": {"n": 1},
    }


def test_pair_row_is_trl_conversational_preference():
    assert PreferencePair("a", (USER,), "yes", "no").to_json() == {
        "id": "a",
        "prompt": [{"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "yes"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }


def test_messages_from_reads_what_to_json_writes():
    assert messages_from([m.to_json() for m in (SYSTEM, USER, ANSWER)], where="x") == (SYSTEM, USER, ANSWER)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"^f:3: messages is None"),
        ([], r"^f:3: messages is \[\]"),
        ("Hi", r"^f:3: messages is 'Hi'"),
        ([{"role": "user"}], r"^f:3: messages\[0\] is .*\nwhy: role and text content are needed"),
        (["Hi"], r"^f:3: messages\[0\] is 'Hi'"),
        ([{"role": "tool", "content": "x"}], r"^f:3: messages\[0\]\.role is 'tool'\nwhy: known roles: system, user"),
        ([USER.to_json(), SYSTEM.to_json()], r"^f:3: messages\[1\] is a system message\nwhy: only the first may be"),
        ([SYSTEM.to_json()], r"^f:3: no message has role user"),
    ],
)
def test_messages_from_refuses_and_names_the_place(value, message):
    with pytest.raises(DataError, match=message):
        messages_from(value, where="f:3")
