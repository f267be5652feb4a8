"""The recipe's `data` section: where conversations come from and how many go to each split."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from distill.data.records import Conversation, PreferencePair, messages_from
from distill.errors import DataError
from distill.files import read_jsonl, write_jsonl
from distill.settings import Settings

SPLITS = ("teacher", "prompts", "labelled", "valid", "test")


class DataSettings(Settings):
    """Where conversations come from."""

    source: Literal["embedded", "personality-chat", "taskmaster4-coffee", "files", "hub"]
    path: Path | None = Field(None, description="folder or file of the source")
    hub_id: str | None = Field(None, description="data set on the hub, or a local folder that `datasets` can load")
    subset: str | None = Field(None, description="configuration of the hub data set")
    revision: str | None = Field(None, description="commit or tag of the hub data set")
    num_teacher: int | None = Field(None, ge=0, description="conversations the teacher is trained on")
    num_prompts: int | None = Field(None, ge=0, description="conversations without answers, for distillation")
    num_labelled: int | None = Field(None, ge=0, description="answered conversations the student may see")
    num_valid: int | None = Field(None, ge=0, description="conversations for choosing settings")
    num_test: int | None = Field(None, ge=0, description="conversations for the final figures")
    max_wrong_rows_share: float = Field(0.01, ge=0, le=1, description="share of wrong rows that stops the run")

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        return self


def load_splits(settings: DataSettings, *, seed: int) -> dict[str, list[Conversation]]:
    """The conversations of each split."""
    from distill.embedded import draw

    splits = {}
    for split in SPLITS:
        rows = draw(split, num_dialogues=getattr(settings, f"num_{split}") or 0, seed=seed)
        conversations = [
            Conversation(row["id"], messages_from(row["messages"], where=row["id"]), row["facts"]) for row in rows
        ]
        splits[split] = [c.without_answers() for c in conversations] if split == "prompts" else conversations
    return splits


def read_conversations(path: Path) -> list[Conversation]:
    """Reads a conversations file that `write_conversations` wrote.

    Raises:
        DataError: the file is missing, or a row is wrong; names file and line.
    """
    conversations = []
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        messages = messages_from(row.get("messages"), where=where)
        facts = row.get("facts", {})
        if not isinstance(row.get("id"), str):
            raise DataError(f"{where}: id is {row.get('id')!r:.80}", why="a text was expected")
        if not isinstance(facts, dict):
            raise DataError(f"{where}: facts is {facts!r:.80}", why="an object was expected")
        conversations.append(Conversation(str(row["id"]), messages, facts))
    return conversations


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Writes one conversation a line, whole or not at all; returns how many."""
    return write_jsonl(path, (conversation.to_json() for conversation in conversations))


def read_pairs(path: Path) -> list[PreferencePair]:
    """Reads a pairs file that `write_pairs` wrote.

    Raises:
        DataError: the file is missing, or a row is wrong; names file and line.
    """
    pairs = []
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        if not isinstance(row.get("id"), str):
            raise DataError(f"{where}: id is {row.get('id')!r:.80}", why="a text was expected")
        prompt = messages_from(row.get("prompt"), where=where)
        answers = []
        for side in ("chosen", "rejected"):
            value = row.get(side)
            if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], dict):
                raise DataError(f"{where}: {side} is {value!r:.80}", why="one assistant message was expected")
            answers.append(str(value[0].get("content")))
        pairs.append(PreferencePair(str(row["id"]), prompt, answers[0], answers[1]))
    return pairs


def write_pairs(path: Path, pairs: Iterable[PreferencePair]) -> int:
    """Writes one pair a line, whole or not at all; returns how many."""
    return write_jsonl(path, (pair.to_json() for pair in pairs))
