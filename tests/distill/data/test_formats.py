import pytest

from distill.data.formats import conversation_of, format_of, record_of
from distill.data.records import Conversation, Message, PreferencePair
from distill.data.rows import Row
from distill.errors import DataError

USER, ANSWER = Message("user", "Hi"), Message("assistant", "Hello")
SYSTEM = Message("system", "Be kind.")
USER_ROW, ANSWER_ROW, SYSTEM_ROW = (m.to_json() for m in (USER, ANSWER, SYSTEM))


def row(**values):
    return Row("folder/f.jsonl:3", values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"messages": [SYSTEM_ROW, USER_ROW, ANSWER_ROW]}, (SYSTEM, USER, ANSWER)),
        ({"prompt": "Hi", "completion": "Hello"}, (USER, ANSWER)),
        ({"prompt": [SYSTEM_ROW, USER_ROW], "completion": [ANSWER_ROW]}, (SYSTEM, USER, ANSWER)),
        ({"prompt": "Hi"}, (USER,)),
        (
            {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
            (USER, ANSWER),
        ),
        ({"conversations": [{"role": "user", "content": "Hi"}]}, (USER,)),
        ({"messages": [USER_ROW], "prompt": None, "chosen": None, "rejected": None}, (USER,)),
    ],
)
def test_rows_of_every_format_become_conversations(values, expected):
    assert record_of(row(**values)) == Conversation("f.jsonl:3", expected)


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"},
        {
            "prompt": [USER_ROW],
            "chosen": [ANSWER_ROW],
            "rejected": [{"role": "assistant", "content": "What?"}],
        },
    ],
)
def test_preference_rows_become_pairs(values):
    assert record_of(row(id="p", **values)) == PreferencePair("p", (USER,), "Hello", "What?")


def test_a_pair_is_read_back_as_written():
    pair = PreferencePair("p", (SYSTEM, USER), "Hello", "What?")
    assert record_of(Row("f:1", pair.to_json())) == pair


def test_a_conversation_is_read_back_as_written():
    conversation = Conversation("c", (SYSTEM, USER, ANSWER), {"right": ["Hello"]})
    assert record_of(Row("f:1", conversation.to_json())) == conversation


def test_conversation_of_a_pair_ends_in_the_chosen_answer():
    pair = row(prompt="Hi", chosen="Hello", rejected="What?")
    assert conversation_of(pair).messages == (USER, ANSWER)
    assert conversation_of(row(prompt="Hi", completion="Hello")).messages == (USER, ANSWER)


@pytest.mark.parametrize(
    ("values", "expected"), [({"id": 7}, "7"), ({"prompt_id": "x"}, "x"), ({"id": ""}, "f.jsonl:3")]
)
def test_ids_come_from_the_row_or_its_place(values, expected):
    assert record_of(row(prompt="Hi", **values)).id == expected


def test_the_richest_format_wins():
    assert format_of(row(prompt="Hi", completion="a", chosen="b", rejected="c")) == ("prompt", "chosen", "rejected")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text": "Hi"}, r"columns text are no known format\nwhy: no known columns \(known: prompt \+ chosen"),
        ({}, r"columns none are no known format"),
        ({"messages": "Hi"}, r"messages is 'Hi'"),
        ({"messages": [ANSWER_ROW, USER_ROW]}, r"the first turn is the assistant's"),
        ({"messages": [USER_ROW, ANSWER_ROW, ANSWER_ROW]}, r"two turns of assistant in a row"),
        ({"messages": [USER_ROW, {"role": "assistant", "content": " "}]}, r"a message of assistant is empty"),
        ({"prompt": [USER_ROW, ANSWER_ROW], "completion": "x"}, r"prompt ends with assistant"),
        ({"prompt": "Hi", "completion": ""}, r"completion is empty\nwhy: an answer is empty"),
        ({"prompt": "Hi", "completion": [USER_ROW]}, r"completion is \[.*\nwhy: completion must be a text or a list"),
        ({"prompt": "Hi", "chosen": 5, "rejected": "x"}, r"chosen is 5\nwhy: chosen must be a text"),
        ({"prompt": " ", "chosen": "a", "rejected": "x"}, r"a message of user is empty"),
        ({"conversations": "Hi"}, r"conversations is 'Hi'\nwhy: conversations must be a list of turns"),
        (
            {"conversations": [{"from": "tool", "value": "x"}]},
            r"conversations\[0\] is .*\nwhy: a turn needs value and from",
        ),
        ({"conversations": ["Hi"]}, r"conversations\[0\] is 'Hi'"),
        ({"conversations": [{"from": "human"}]}, r"messages\[0\] is .*\nwhy: role and text content are needed"),
    ],
)
def test_wrong_rows_are_refused_by_file_and_line(values, message):
    with pytest.raises(DataError, match=rf"^folder/f\.jsonl:3: {message}"):
        record_of(row(**values))


def test_user_turns_alone_wait_for_answers():
    assert record_of(row(messages=[USER_ROW, USER_ROW])).messages == (USER, USER)
