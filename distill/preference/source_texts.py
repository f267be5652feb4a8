"""Unlabelled texts from a file of lines, of JSON rows or of a table: each once, and every line's fate known.

No message and no log of this module quotes a text: they may be of any kind.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import Field, field_validator

from distill.data.rows import WrongRow, read_rows
from distill.errors import DataError
from distill.files import is_text
from distill.settings import Settings

MAX_LINE_BYTES = 1 << 20
"""No more of a line is ever held in memory."""

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")


class TextFileSettings(Settings):
    """A file of texts."""

    path: Path = Field(description=".txt: one text a line; .jsonl, .csv, .parquet: one text a row")
    column: str = Field("text", min_length=1, description="of a row: where its text stands")
    keep: dict[str, tuple[str, ...]] = Field(
        {}, description="of a row: column -> values with which it is taken; {}: all"
    )
    max_characters: int = Field(2000, gt=0, description="longer texts are dropped")

    @field_validator("path")
    @classmethod
    def _expanded(cls, path: Path) -> Path:
        return path.expanduser()


@dataclass(frozen=True)
class SourceLine:
    """One line of the source: where it stands, its text's sha256, and the text or why it was dropped.

    Attributes:
        where: file name and line, without the folder.
        key: hex sha256 of the text; empty where there is no text.
        text: stripped; None where it was dropped, but for doubles.
        dropped: `blank`, `not_taken`, `malformed`, `no_text`, `too_long`, `duplicate_text`, or None.
    """

    where: str
    key: str
    text: str | None
    dropped: str | None


READING_REASONS = ("blank", "not_taken", "malformed", "no_text", "too_long", "duplicate_text")


def key_of(text: str) -> str:
    """The hex sha256 of a text: its name wherever the text itself shall not stand."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_texts(settings: TextFileSettings) -> list[SourceLine]:
    """Every line of the file with its text, or why it has none.

    Raises:
        DataError: the file is missing, of another kind, not UTF-8, or has no text that is short enough.
    """
    path = settings.path
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path} is no file of texts", why=f"texts are read from {', '.join(SUFFIXES)} files")
    if not path.is_file():
        raise DataError(f"{path} does not exist", fix="check the path")
    values = _of_lines(path, settings) if path.suffix.lower() in (".txt", ".jsonl") else _of_table(path, settings)
    return with_doubles_dropped(list(values), name=str(path), max_characters=settings.max_characters)


def source_lines(texts: Sequence[str], *, name: str, max_characters: int) -> list[SourceLine]:
    """Texts that are in memory, as `read_texts` gives those of a file.

    Raises:
        DataError: none is short enough.
    """
    lines = [_line(f"{name}:{number}", text) for number, text in enumerate(texts, start=1)]
    return with_doubles_dropped(lines, name=name, max_characters=max_characters)


def with_doubles_dropped(lines: Sequence[SourceLine], *, name: str, max_characters: int) -> list[SourceLine]:
    """The same lines, those with too long a text or with one that came before marked so.

    Raises:
        DataError: no text is left.
    """
    seen: set[str] = set()
    result = []
    for line in lines:
        if line.text is not None and len(line.text) > max_characters:
            line = SourceLine(line.where, line.key, None, "too_long")
        elif line.text is not None and line.key in seen:
            line = SourceLine(line.where, line.key, None, "duplicate_text")
        seen.add(line.key)
        result.append(line)
    if all(line.text is None for line in result):
        reasons = ", ".join(sorted({str(line.dropped) for line in result})) or "it is empty"
        raise DataError(
            f"{name} holds no text that can be used",
            why=f"of {len(result)} lines none is left ({reasons})",
            fix="check the path, the column and max_characters",
        )
    return result


def _line(where: str, value: object) -> SourceLine:
    """A line whose text is `value`, whatever that is."""
    if not isinstance(value, str) or not is_text(value) or "\x00" in value:
        return SourceLine(where, "", None, "no_text")
    text = value.strip()
    return SourceLine(where, key_of(text), text, None) if text else SourceLine(where, "", None, "blank")


def _of_lines(path: Path, settings: TextFileSettings) -> Iterator[SourceLine]:
    is_json = path.suffix.lower() == ".jsonl"
    with path.open("rb") as handle:
        for number, raw in _raw_lines(handle):
            where = f"{path.name}:{number}"
            if raw is None:
                yield SourceLine(where, "", None, "too_long")
                continue
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number} is not UTF-8 (byte {error.start + 1} of the line)",
                    why="its texts could only be guessed at",
                    fix=f"iconv -f LATIN1 -t UTF-8 {path.name} > {path.stem}.utf8{path.suffix}",
                ) from None
            yield _of_json(where, text, settings) if is_json and text else _line(where, text)


def _raw_lines(handle: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers from 1; None in place of one that is longer than `MAX_LINE_BYTES`."""
    number = 0
    while raw := handle.readline(MAX_LINE_BYTES):
        number += 1
        is_whole = raw.endswith(b"\n") or len(raw) < MAX_LINE_BYTES
        while not is_whole:
            rest = handle.readline(MAX_LINE_BYTES)
            is_whole = rest.endswith(b"\n") or len(rest) < MAX_LINE_BYTES
            raw = b""
        yield number, raw or None


def _of_json(where: str, text: str, settings: TextFileSettings) -> SourceLine:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return SourceLine(where, "", None, "malformed")
    return _of_row(where, values, settings) if isinstance(values, dict) else SourceLine(where, "", None, "malformed")


def _of_table(path: Path, settings: TextFileSettings) -> Iterator[SourceLine]:
    for row in read_rows(path):
        where = row.where.removeprefix(f"{path.parent}/")
        if isinstance(row, WrongRow):
            yield SourceLine(where, "", None, "malformed")
        else:
            yield _of_row(where, dict(row.values), settings)


def _of_row(where: str, values: dict[str, object], settings: TextFileSettings) -> SourceLine:
    if any(str(values.get(column)) not in wanted for column, wanted in settings.keep.items()):
        return SourceLine(where, "", None, "not_taken")
    return _line(where, values.get(settings.column))
