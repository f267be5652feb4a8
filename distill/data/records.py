"""The records every source ends in: messages, conversations, preference pairs; what makes each valid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from distill.errors import DataError

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def to_json(self) -> dict[str, str]:
        """The message as the chat-template libraries expect it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True)
class Conversation:
    """A dialogue; `facts` holds what a checker needs to judge answers (JSON-able, may be empty).

    A conversation whose last message is the user's is a *prompt*. One that holds user turns only (and
    perhaps a system message) is *unlabelled*: every user turn waits for an answer.
    """

    id: str
    messages: tuple[Message, ...]
    facts: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The row of a conversations file."""
        return {"id": self.id, "messages": [m.to_json() for m in self.messages], "facts": dict(self.facts)}

    @property
    def user_turns(self) -> tuple[Message, ...]:
        """The user's messages, in order."""
        return tuple(m for m in self.messages if m.role == "user")

    @property
    def system(self) -> Message | None:
        """The system message, if there is one."""
        return self.messages[0] if self.messages and self.messages[0].role == "system" else None

    def without_answers(self) -> "Conversation":
        """The same conversation with its assistant turns removed: a prompt for a model to answer."""
        kept = tuple(m for m in self.messages if m.role != "assistant")
        return Conversation(self.id, kept, self.facts)


@dataclass(frozen=True)
class PreferencePair:
    """A prompt (ending in a user turn) with the preferred and the dispreferred answer."""

    id: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str

    def to_json(self) -> dict[str, object]:
        """The row of a pairs file, in TRL's conversational preference format."""
        return {
            "id": self.id,
            "prompt": [m.to_json() for m in self.prompt],
            "chosen": [{"role": "assistant", "content": self.chosen}],
            "rejected": [{"role": "assistant", "content": self.rejected}],
        }


def messages_from(value: object, *, where: str) -> tuple[Message, ...]:
    """Validates a list of `{"role", "content"}` objects.

    A system message may stand first only; contents are strings; at least one user turn.

    Raises:
        DataError: the list breaks one of these rules; `where` (file and line) leads the message.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        raise DataError(f"{where}: messages is {value!r:.80}", why="a non-empty list of messages was expected")
    messages: list[Message] = []
    for position, item in enumerate(value):
        if not isinstance(item, Mapping) or not isinstance(item.get("content"), str):
            raise DataError(f"{where}: messages[{position}] is {item!r:.80}", why="role and text content are needed")
        role = item.get("role")
        if role not in ROLES:
            raise DataError(f"{where}: messages[{position}].role is {role!r}", why=f"known roles: {', '.join(ROLES)}")
        if role == "system" and position:
            raise DataError(f"{where}: messages[{position}] is a system message", why="only the first may be")
        messages.append(Message(role, item["content"]))
    if not any(m.role == "user" for m in messages):
        raise DataError(f"{where}: no message has role user", why="there is nothing to answer")
    return tuple(messages)
