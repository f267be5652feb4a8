"""Reads Taskmaster-4 (Google, CC BY 4.0): coffee orders that crowd workers wrote as whole dialogues.

The files stand in https://github.com/google-research-datasets/Taskmaster, TM-4-2024/data/data_*.json: utterances of a
user and an assistant, with the API calls between them as annotations, which are left out. Consecutive utterances of
one speaker are joined, a greeting before the customer's first words is dropped (an assistant answers), and so is a
last customer's turn that nobody answers. A file of `messages` rows (dialogs.jsonl) is read as such.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

from distill.data.formats import conversation_of
from distill.data.records import Conversation, Message, Role
from distill.data.rows import Row, read_rows, records_of
from distill.data.splits import Group, grouped
from distill.errors import DataError

log = logging.getLogger(__name__)

_ROLES: dict[str, Role] = {"user": "user", "customer": "user", "assistant": "assistant", "agent": "assistant"}
_PLACES = (
    "data_*.json",
    "TM-4-2024/data/data_*.json",
    "data/data_*.json",
    "raw/data/data_*.json",
    "dialogs.jsonl",
    "derived/dialogs.jsonl",
)


def taskmaster_coffee_groups(path: Path, *, max_wrong_share: float) -> list[Group]:
    """All dialogues, exact duplicates dropped, those with the same customer's turns in one group.

    Raises:
        DataError: no file is there, or too many rows are wrong.
    """
    conversations: dict[tuple[Message, ...], Conversation] = {}
    num_read = 0
    for file in _files(path):
        rows = records_of(read_rows(file), _dialogue, name=str(file), max_wrong_share=max_wrong_share)
        num_read += len(rows)
        for conversation in rows:
            conversations.setdefault(conversation.messages, conversation)
    log.info("%s: %d dialogues, %d duplicates dropped", path, len(conversations), num_read - len(conversations))
    return grouped(conversations.values())


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for pattern in _PLACES:
        files = sorted(path.glob(pattern))
        if files:
            return files
    raise DataError(
        f"data.path is {path}, and no Taskmaster-4 file is there",
        why=f"looked for {', '.join(_PLACES)}",
        fix="git clone https://github.com/google-research-datasets/Taskmaster and set data.path to that folder",
    )


def _dialogue(row: Row) -> Conversation:
    """A row of either kind as a dialogue that begins with the customer and ends with the assistant."""
    if "utterances" not in row.values:
        conversation = conversation_of(row)
        return Conversation(conversation.id, _trimmed(list(conversation.messages), where=row.where))
    utterances, name = row.values["utterances"], row.values.get("conversation_id")
    if not isinstance(utterances, list) or not isinstance(name, str):
        raise DataError(f"{row.where}: utterances is {utterances!r:.80}", why="a dialogue needs an id and utterances")
    messages: list[Message] = []
    for utterance in utterances:
        if not isinstance(utterance, Mapping) or not isinstance(utterance.get("text", ""), str):
            raise DataError(
                f"{row.where}: an utterance is {utterance!r:.80}", why="an utterance needs speaker and text"
            )
        role, text = _ROLES.get(str(utterance.get("speaker"))), str(utterance.get("text", "")).strip()
        if role is None or not text:
            continue
        if messages and messages[-1].role == role:
            messages[-1] = Message(role, f"{messages[-1].content} {text}")
        else:
            messages.append(Message(role, text))
    return Conversation(name, _trimmed(messages, where=row.where))


def _trimmed(messages: list[Message], *, where: str) -> tuple[Message, ...]:
    while messages and messages[0].role == "assistant":
        messages = messages[1:]
    while messages and messages[-1].role == "user":
        messages = messages[:-1]
    if not messages:
        raise DataError(f"{where}: nobody answers the customer", why="the dialogue has no answered customer's turn")
    return tuple(messages)
