"""Reads Anthropic's hh-rlhf transcripts (MIT): dialogues with an assistant, the answers that annotators chose.

The files stand in https://github.com/anthropics/hh-rlhf, one folder a part, named train.jsonl.gz and test.jsonl.gz; a
row holds two transcripts, `chosen` and `rejected`, that differ in the last answer. Many of harmless-base provoke: no
message of this module quotes them. What was chosen is the better of two answers, which need not be a safe one.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from distill.data.records import Conversation, Message, Role
from distill.data.rows import Row, WrongRow, records_of
from distill.data.splits import Group, grouped
from distill.errors import DataError

PATTERN = "*.jsonl.gz"

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def hh_rlhf_groups(path: Path, *, max_wrong_share: float) -> list[Group]:
    """The dialogues of a file or of every file of a folder, those with the same questions in one group.

    Raises:
        DataError: no file is there or it is damaged, or too many rows are wrong.
    """
    files = sorted(path.glob(PATTERN)) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(
            f"data.path is {path}, and no {PATTERN} file is there",
            why="hh-rlhf transcripts are read from such files",
            fix="git clone https://github.com/anthropics/hh-rlhf and set data.path to one of its folders",
        )
    found: list[Conversation] = []
    for file in files:
        found += records_of(_rows(file), dialogue, name=file.name, max_wrong_share=max_wrong_share)
    return grouped(found)


def dialogue(row: Row) -> Conversation:
    """The chosen transcript as messages.

    Raises:
        DataError: it does not begin with the human, an end is empty, or one speaks twice in a row.
    """
    transcript = row.values.get("chosen")
    if not isinstance(transcript, str):
        raise DataError(f"{row.where}: chosen is no text", why="chosen is no text")
    parts = _TURN.split(transcript)
    turns = [Message(_ROLES[name], text.strip()) for name, text in zip(parts[1::2], parts[2::2], strict=True)]
    roles = [turn.role for turn in turns]
    takes_turns = roles == [("user", "assistant")[number % 2] for number in range(len(roles))]
    if parts[0].strip() or len(roles) < 2 or len(roles) % 2 or not takes_turns:
        raise DataError(f"{row.where}: no dialogue", why="human and assistant do not take turns")
    if not all(turn.content for turn in turns):
        raise DataError(f"{row.where}: an empty turn", why="a turn is empty")
    return Conversation(row.where, tuple(turns))


def _rows(path: Path) -> Iterator[Row | WrongRow]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as handle:
            for number, line in enumerate(handle, start=1):
                where = f"{path.name}:{number}"
                try:
                    values = json.loads(line)
                except ValueError:
                    values = None
                yield Row(where, values) if isinstance(values, dict) else WrongRow(where, "the line is no JSON object")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {type(error).__name__}", fix="download the file again") from None
