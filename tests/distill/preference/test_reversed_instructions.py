"""Roles swapped under the authors' template, word for word."""

from hypothesis import given
from hypothesis import strategies as st

from distill.data import Conversation, Message
from distill.preference.reversed_instructions import TEMPLATE, reversed_conversations, reversed_prompt

AS_PUBLISHED = (
    "Below is a response to a certain instruction. "
    "Write the instruction that the response is trying to complete.\n\n### response:\n{output}\n\n### Instruction:"
)


def dialogue(*turns: str, name: str = "a") -> Conversation:
    roles = ("user", "assistant")
    return Conversation(name, tuple(Message(roles[number % 2], text) for number, text in enumerate(turns)))


def test_the_template_is_the_published_one():
    """README of uscnlp-lime/safer-instruct: a line, a blank one, the response, a blank one, and nothing after."""
    assert TEMPLATE == AS_PUBLISHED
    prompt = reversed_prompt("No.")
    assert [message.role for message in prompt] == ["user"]
    assert prompt[0].content == AS_PUBLISHED.replace("{output}", "No.")


@given(st.text())
def test_any_response_stands_in_the_prompt_as_it_is(output: str):
    content = reversed_prompt(output)[0].content
    assert content.removeprefix(AS_PUBLISHED.split("{output}")[0]).removesuffix("\n\n### Instruction:") == output


def test_every_turn_becomes_an_example_whose_answer_is_the_instruction():
    system = Message("system", "Be kind.")
    whole = dialogue("Tea?", "Two dollars.", "And milk?", "Free.")
    rows = reversed_conversations([Conversation("a", (system, *whole.messages))])
    assert [row.messages[-1] for row in rows] == [Message("assistant", "Tea?"), Message("assistant", "And milk?")]
    assert [row.messages[:-1] for row in rows] == [reversed_prompt("Two dollars."), reversed_prompt("Free.")]
    assert [row.id for row in rows] == ["a:0", "a:1"]


def test_doubles_empty_sides_and_unanswered_turns_give_no_example():
    rows = [dialogue("Tea?", "Yes."), dialogue(" Tea? ", "Yes. ", name="b"), dialogue("Tea?", " ", name="c")]
    rows += [dialogue("Tea?", "Yes.", "Milk?", name="d"), dialogue("Milk?", name="e")]
    assert [row.id for row in reversed_conversations(rows)] == ["a:0"]
