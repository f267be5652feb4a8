"""The recipe's `data` section: where conversations come from and how many go to each split."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from distill.data.formats import conversation_of, record_of
from distill.data.hh_rlhf import hh_rlhf_groups
from distill.data.personality_chat import personality_chat_strata
from distill.data.records import Conversation, PreferencePair, messages_from
from distill.data.rows import Row, read_rows, records_of, rows_of_table
from distill.data.splits import SPLITS, Group, divided, drawn, grouped, without_leaks
from distill.data.taskmaster_coffee import taskmaster_coffee_groups
from distill.errors import DataError
from distill.files import read_jsonl, write_jsonl
from distill.settings import Settings

log = logging.getLogger(__name__)

Source = Literal["embedded", "personality-chat", "taskmaster4-coffee", "hh-rlhf", "files", "hub"]
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_PART_NAMES = {split: split for split in (*SPLITS, "train")} | {"validation": "valid", "dev": "valid"}


class DataSettings(Settings):
    """Where conversations come from. A number left out takes all that the source has for that split."""

    source: Source = Field(description="the embedded set, a reader of a public data set, files of rows, or a hub id")
    path: Path | None = Field(None, description="folder or file of the source; not for embedded and hub")
    hub_id: str | None = Field(None, description="data set on the hub, or a local folder that `datasets` can load")
    subset: str | None = Field(None, description="configuration of the hub data set")
    revision: str | None = Field(None, description="commit or tag of the hub data set")
    num_teacher: int | None = Field(None, ge=0, description="conversations the teacher is trained on")
    num_prompts: int | None = Field(None, ge=0, description="conversations without answers, for distillation")
    num_labelled: int | None = Field(None, ge=0, description="answered conversations the student may see")
    num_valid: int | None = Field(None, ge=0, description="conversations for choosing settings")
    num_test: int | None = Field(None, ge=0, description="conversations for the final figures")
    max_wrong_rows_share: float = Field(0.01, ge=0, le=1, description="share of wrong rows above which a run stops")

    @property
    def numbers(self) -> dict[str, int | None]:
        """Conversations asked for, by split."""
        return {split: getattr(self, f"num_{split}") for split in SPLITS}

    @field_validator("path")
    @classmethod
    def _expanded(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser()

    @model_validator(mode="after")
    def _names_its_place(self) -> Self:
        reads_path = self.source not in ("embedded", "hub")
        if reads_path and self.path is None:
            raise ValueError(f"path is missing: source {self.source} reads a folder or file (data.path=FOLDER)")
        if not reads_path and self.path is not None:
            raise ValueError(f"path is {self.path}, but source {self.source} reads no path")
        if self.source == "hub" and self.hub_id is None:
            raise ValueError("hub_id is missing: source hub loads a data set by its id (data.hub_id=OWNER/NAME)")
        for name in ("hub_id", "subset", "revision"):
            if self.source != "hub" and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, but source {self.source} reads nothing from the hub"
                )
        return self

    @model_validator(mode="after")
    def _says_how_many(self) -> Self:
        missing = [f"num_{split}" for split, number in self.numbers.items() if number is None]
        if self.source == "embedded" and missing:
            raise ValueError(f"{', '.join(missing)} missing: source embedded draws as many as you ask for")
        return self


def load_splits(settings: DataSettings, *, seed: int) -> dict[str, list[Conversation]]:
    """The conversations of each split: teacher, prompts (answers removed), labelled, valid, test.

    Args:
        settings: the recipe's `data` section.
        seed: decides what is drawn from the training splits; of the embedded set, every split is drawn by it.

    Raises:
        DataError: the source is missing, has too many wrong rows, or fewer conversations than asked for.
    """
    if settings.source == "embedded":
        splits = _embedded(settings, seed=seed)
    else:
        splits = drawn(_groups_by_split(settings), numbers=settings.numbers, seed=seed)
    log.info("%s: %s", settings.source, ", ".join(f"{len(rows)} {split}" for split, rows in splits.items()))
    return splits


def _conversation(values: Mapping[str, object], *, where: str) -> Conversation:
    name, facts = values.get("id"), values.get("facts", {})
    if not isinstance(name, str):
        raise DataError(f"{where}: id is {name!r:.80}", why="a text was expected")
    if not isinstance(facts, dict):
        raise DataError(f"{where}: facts is {facts!r:.80}", why="an object was expected")
    return Conversation(name, messages_from(values.get("messages"), where=where), facts)


def _embedded(settings: DataSettings, *, seed: int) -> dict[str, list[Conversation]]:
    from distill.embedded import draw

    splits = {}
    for split in SPLITS:
        rows = draw(split, num_dialogues=settings.numbers[split] or 0, seed=seed)
        conversations = [_conversation(row, where=f"embedded {split} {row.get('id')}") for row in rows]
        splits[split] = [c.without_answers() for c in conversations] if split == "prompts" else conversations
    return splits


def _groups_by_split(settings: DataSettings) -> Mapping[str, list[Group]]:
    if settings.source == "hub":
        return _split_parts(_hub_parts(settings))
    path = settings.path
    assert path is not None, "the settings' validator asks for it"
    if settings.source == "personality-chat":
        return divided(personality_chat_strata(path))
    if settings.source == "taskmaster4-coffee":
        return divided([taskmaster_coffee_groups(path, max_wrong_share=settings.max_wrong_rows_share)])
    if settings.source == "hh-rlhf":
        return divided([hh_rlhf_groups(path, max_wrong_share=settings.max_wrong_rows_share)])
    return _split_parts(_file_parts(path, settings))


def _split_parts(parts: Mapping[str, list[Conversation]]) -> dict[str, list[Group]]:
    """Keeps parts that are splits already, and divides `train` into those that are missing."""
    splits = {name: grouped(conversations) for name, conversations in parts.items() if name != "train"}
    if "train" in parts:
        held_out = [split for split in ("valid", "test") if split not in splits]
        for split, groups in divided([grouped(parts["train"])], held_out=held_out).items():
            splits[split] = splits.get(split, []) + groups
    return without_leaks(splits)


def _file_parts(path: Path, settings: DataSettings) -> dict[str, list[Conversation]]:
    """Conversations by the part that a file's name says: train-00000.parquet is of train, chats.jsonl too."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    if not files:
        raise DataError(
            f"data.path is {path}, and no data file is there",
            why=f"rows are read from {', '.join(SUFFIXES)} files",
            fix="set data.path to a file, or to a folder that holds some",
        )
    parts: dict[str, list[Conversation]] = {}
    for file in files:
        rows = records_of(
            read_rows(file), conversation_of, name=str(file), max_wrong_share=settings.max_wrong_rows_share
        )
        parts.setdefault(part_of(file.stem), []).extend(rows)
    return parts


def part_of(name: str) -> str:
    """The part of a data set that a file or a hub split is named for; `train` where the name says nothing."""
    word = name.replace("-", "_").replace(".", "_").split("_")[0].lower()
    return _PART_NAMES.get(word, "train")


def _hub_parts(settings: DataSettings) -> dict[str, list[Conversation]]:
    from datasets import DatasetDict, load_dataset
    from datasets.exceptions import DatasetNotFoundError

    name = settings.hub_id
    try:
        tables: Any = load_dataset(name, settings.subset, revision=settings.revision)
    except (DatasetNotFoundError, FileNotFoundError, ConnectionError, ValueError) as error:
        raise DataError(
            f"data.hub_id is {name}: {error}",
            why="`datasets` cannot load it",
            fix="check the id, data.subset and data.revision, and the connection to the hub",
        ) from error
    assert isinstance(tables, DatasetDict)
    parts: dict[str, list[Conversation]] = {}
    for split, table in tables.items():
        rows = records_of(
            rows_of_table(table, name=f"{name} {split}"),
            conversation_of,
            name=f"{name} {split}",
            max_wrong_share=settings.max_wrong_rows_share,
        )
        parts.setdefault(part_of(str(split)), []).extend(rows)
    return parts


def read_conversations(path: Path) -> list[Conversation]:
    """Reads a conversations file that `write_conversations` wrote.

    Raises:
        DataError: the file is missing, or a row is wrong; names file and line.
    """
    return [_conversation(row, where=f"{path}:{number}") for number, row in read_jsonl(path)]


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Writes one conversation a line, whole or not at all; returns how many."""
    return write_jsonl(path, (conversation.to_json() for conversation in conversations))


def read_pairs(path: Path) -> list[PreferencePair]:
    """Reads a file of pairs, one JSON object a line, as `write_pairs` or TRL's users write it.

    Raises:
        DataError: the file is missing, or a row is wrong; names file and line.
    """
    pairs = []
    for number, values in read_jsonl(path):
        record = record_of(Row(f"{path}:{number}", values))
        if not isinstance(record, PreferencePair):
            raise DataError(f"{path}:{number} is no pair", why="prompt, chosen and rejected are needed")
        pairs.append(record)
    return pairs


def write_pairs(path: Path, pairs: Iterable[PreferencePair]) -> int:
    """Writes one pair a line, whole or not at all; returns how many."""
    return write_jsonl(path, (pair.to_json() for pair in pairs))
