"""Reversed instruction tuning: from an answer to the instruction that it answers (Safer-Instruct, step 1)."""

from collections.abc import Sequence

from distill.data import Conversation, Message

TEMPLATE = (
    "Below is a response to a certain instruction. Write the instruction that the response is trying to complete.\n"
    "\n"
    "### response:\n"
    "{output}\n"
    "\n"
    "### Instruction:"
)
"""The authors' template, the same in training and at inference; nothing follows the colon.

Source:
    Shi et al. 2024, arXiv:2311.08685; README of uscnlp-lime/safer-instruct (30073fd).
"""


def reversed_prompt(output: str) -> tuple[Message, ...]:
    """What the backward model is asked: the template around a response. Braces in the response stay as they are."""
    before, after = TEMPLATE.split("{output}")
    return (Message("user", f"{before}{output}{after}"),)


def reversed_conversations(conversations: Sequence[Conversation]) -> list[Conversation]:
    """Every answer as the question and the instruction before it as the answer: data of P(instruction | response).

    Each turn gives an example of its own; a system message and earlier turns are left out, since a text that is
    found somewhere has none. Doubles, and turns without an answer or with an empty side, are left out.

    Differs: the paper tunes on the reversed text with no chat template around it; here the template is the user's
    message in the base model's own chat template, so that any chat model can be tuned and served.
    """
    seen: set[tuple[str, str]] = set()
    reversed_: list[Conversation] = []
    for conversation in conversations:
        for turn, (instruction, output) in enumerate(_turns(conversation)):
            key = (instruction.strip(), output.strip())
            if all(key) and key not in seen:
                seen.add(key)
                messages = (*reversed_prompt(key[1]), Message("assistant", key[0]))
                reversed_.append(Conversation(f"{conversation.id}:{turn}", messages))
    return reversed_


def _turns(conversation: Conversation) -> list[tuple[str, str]]:
    """Each user turn with the answer that follows it at once."""
    messages = conversation.messages
    return [
        (message.content, messages[position + 1].content)
        for position, message in enumerate(messages[:-1])
        if message.role == "user" and messages[position + 1].role == "assistant"
    ]
