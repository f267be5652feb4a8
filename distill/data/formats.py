"""Rows to records, by the columns they have: the formats in which other tools store conversations and pairs.

| columns | format | becomes |
|---|---|---|
| prompt, chosen, rejected | TRL preference: texts or message lists | a pair |
| messages | OpenAI, TRL language modelling | a conversation |
| prompt, completion | TRL prompt-completion: texts or message lists | a conversation |
| conversations | ShareGPT: `from` (human, gpt, system) and `value` | a conversation |
| prompt | TRL prompt-only | a conversation without answers |
"""

import itertools
from collections.abc import Mapping, Sequence

from distill.data.records import Conversation, Message, PreferencePair, messages_from
from distill.data.rows import Row
from distill.errors import DataError

_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_FORMATS: tuple[tuple[str, ...], ...] = (
    ("prompt", "chosen", "rejected"),
    ("messages",),
    ("prompt", "completion"),
    ("conversations",),
    ("prompt",),
)


def format_of(row: Row) -> tuple[str, ...]:
    """The columns that decide how a row is read: the first line of the table above that it fills.

    Raises:
        DataError: the row has the columns of no known format.
    """
    present = {name for name, value in row.values.items() if value is not None}
    for columns in _FORMATS:
        if present.issuperset(columns):
            return columns
    known = "; ".join(" + ".join(columns) for columns in _FORMATS)
    raise DataError(
        f"{row.where}: columns {', '.join(sorted(row.values)) or 'none'} are no known format",
        why=f"no known columns (known: {known})",
        fix="rename the columns",
    )


def record_of(row: Row) -> Conversation | PreferencePair:
    """Reads a row in whatever format its columns say.

    Raises:
        DataError: the row is wrong; the message begins with its place.
    """
    columns = format_of(row)
    if columns == ("prompt", "chosen", "rejected"):
        return _pair(row)
    if columns == ("messages",):
        messages = messages_from(row.values["messages"], where=row.where)
    elif columns == ("conversations",):
        messages = messages_from(_from_sharegpt(row), where=row.where)
    else:
        messages = _prompt(row)
        if columns == ("prompt", "completion"):
            messages = (*messages, Message("assistant", _answer(row, "completion")))
    facts = row.values.get("facts")
    conversation = Conversation(_id(row), messages, dict(facts) if isinstance(facts, Mapping) else {})
    _check_turns(conversation, where=row.where)
    return conversation


def conversation_of(row: Row) -> Conversation:
    """Like `record_of`; of a pair, the prompt with the chosen answer."""
    record = record_of(row)
    if isinstance(record, Conversation):
        return record
    return Conversation(record.id, (*record.prompt, Message("assistant", record.chosen)))


def _pair(row: Row) -> PreferencePair:
    prompt = _prompt(row)
    pair = PreferencePair(_id(row), prompt, _answer(row, "chosen"), _answer(row, "rejected"))
    _check_turns(Conversation(pair.id, prompt), where=row.where)
    return pair


def _prompt(row: Row) -> tuple[Message, ...]:
    """The prompt as messages that end with the user's."""
    value = row.values["prompt"]
    if isinstance(value, str):
        messages: tuple[Message, ...] = (Message("user", value),)
    else:
        messages = messages_from(value, where=row.where)
    if messages[-1].role != "user":
        raise DataError(f"{row.where}: prompt ends with {messages[-1].role}", why="a prompt ends with the user's turn")
    return messages


def _answer(row: Row, column: str) -> str:
    """A completion: a text, or a list of one assistant message."""
    value = row.values[column]
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 1:
        message = value[0]
        if isinstance(message, Mapping) and message.get("role") == "assistant":
            value = message.get("content")
    if not isinstance(value, str):
        raise DataError(
            f"{row.where}: {column} is {value!r:.80}", why=f"{column} must be a text or a list of one assistant message"
        )
    if not value.strip():
        raise DataError(f"{row.where}: {column} is empty", why="an answer is empty")
    return value


def _from_sharegpt(row: Row) -> list[dict[str, object]]:
    turns = row.values["conversations"]
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        raise DataError(f"{row.where}: conversations is {turns!r:.80}", why="conversations must be a list of turns")
    messages: list[dict[str, object]] = []
    for position, turn in enumerate(turns):
        name = turn.get("from", turn.get("role")) if isinstance(turn, Mapping) else None
        if not isinstance(turn, Mapping) or name not in _SHAREGPT_ROLES:
            raise DataError(
                f"{row.where}: conversations[{position}] is {turn!r:.80}",
                why=f"a turn needs value and from ({', '.join(_SHAREGPT_ROLES)})",
            )
        messages.append({"role": _SHAREGPT_ROLES[name], "content": turn.get("value", turn.get("content"))})
    return messages


def _check_turns(conversation: Conversation, *, where: str) -> None:
    """User and assistant take turns, the user first, unless the assistant says nothing at all."""
    turns = [m for m in conversation.messages if m.role != "system"]
    for message in turns:
        if not message.content.strip():
            raise DataError(f"{where}: a message of {message.role} is empty", why="a message is empty")
    if turns[0].role != "user":
        raise DataError(f"{where}: the first turn is the assistant's", why="the first turn must be the user's")
    if all(message.role == "user" for message in turns):
        return
    for before, after in itertools.pairwise(turns):
        if before.role == after.role:
            raise DataError(f"{where}: two turns of {after.role} in a row", why="user and assistant must take turns")


def _id(row: Row) -> str:
    for column in ("id", "prompt_id", "conversation_id"):
        value = row.values.get(column)
        if isinstance(value, str | int) and str(value):
            return str(value)
    return row.where.rsplit("/", maxsplit=1)[-1]
