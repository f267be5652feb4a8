"""Files to rows: JSON lines, JSON lists, CSV and Parquet, each row with its place; and the count of wrong rows."""

import csv
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from distill.errors import DataError

log = logging.getLogger(__name__)

NUM_NAMED = 5

Record = TypeVar("Record")


@dataclass(frozen=True)
class Row:
    """One row and where it stands (`file:line`, or `file row n` where a format has no lines)."""

    where: str
    values: Mapping[str, object]


@dataclass(frozen=True)
class WrongRow:
    """A row that cannot be used; `reason` is counted, so it is the same for rows wrong in the same way."""

    where: str
    reason: str


def read_rows(path: Path) -> Iterator[Row | WrongRow]:
    """Reads the rows of a .jsonl, .json, .csv or .parquet file.

    Raises:
        DataError: the file is missing, of another kind, or cannot be read at all.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path} is no data file",
            why=f"rows are read from {', '.join(_READERS)} files",
            fix="convert the file, or name another",
        )
    if not path.is_file():
        raise DataError(f"{path} does not exist", fix="check the path")
    try:
        yield from reader(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}", fix="convert the file to UTF-8") from error


def rows_of_table(table: Iterable[Mapping[str, object]], *, name: str) -> Iterator[Row]:
    """The rows of a table held by `datasets`, counted from 1."""
    for number, values in enumerate(table, start=1):
        yield Row(f"{name} row {number}", values)


def records_of(
    rows: Iterable[Row | WrongRow], parse: Callable[[Row], Record], *, name: str, max_wrong_share: float
) -> list[Record]:
    """Parses rows; the first wrong ones are named in the log, and all are counted by reason.

    Args:
        rows: what `read_rows` yields.
        parse: raises DataError for a wrong row; its `why` (or else its `what`) is the reason counted.
        name: the file or data set, for messages.
        max_wrong_share: share of wrong rows above which the run stops.

    Raises:
        DataError: more rows than `max_wrong_share` are wrong, or there is no row at all; names the first wrong row.
    """
    records: list[Record] = []
    wrong: list[WrongRow] = []
    for row in rows:
        if isinstance(row, WrongRow):
            wrong.append(row)
            continue
        try:
            records.append(parse(row))
        except DataError as error:
            wrong.append(WrongRow(row.where, error.why or error.what.removeprefix(f"{row.where}: ")))
    _judge(wrong, num_rows=len(records) + len(wrong), name=name, max_wrong_share=max_wrong_share)
    return records


def _judge(wrong: list[WrongRow], *, num_rows: int, name: str, max_wrong_share: float) -> None:
    """Logs wrong rows, or stops the run when they are too many."""
    if not num_rows:
        raise DataError(f"{name} holds no rows", why="there is nothing to learn from", fix="check the path")
    if not wrong:
        return
    for row in wrong[:NUM_NAMED]:
        log.warning("%s: %s; row left out", row.where, row.reason)
    reasons = "; ".join(f"{count} times {reason}" for reason, count in Counter(r.reason for r in wrong).most_common())
    if len(wrong) > max_wrong_share * num_rows:
        raise DataError(
            f"{name}: {len(wrong)} of {num_rows} rows are wrong, the first is {wrong[0].where}: {wrong[0].reason}",
            why=f"data.max_wrong_rows_share is {max_wrong_share:g} ({reasons})",
            fix="mend the rows, or raise data.max_wrong_rows_share",
        )
    log.warning("%s: left out %d of %d rows: %s", name, len(wrong), num_rows, reasons)


def _json_lines(path: Path) -> Iterator[Row | WrongRow]:
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip():
                try:
                    yield _row(json.loads(line), where=f"{path}:{number}")
                except json.JSONDecodeError:
                    yield WrongRow(f"{path}:{number}", "the line is not JSON")


def _json_list(path: Path) -> Iterator[Row | WrongRow]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno} is not JSON: {error.msg}", fix="mend the file") from error
    if not isinstance(rows, list):
        raise DataError(f"{path} holds a {type(rows).__name__}", why="a list of rows was expected")
    for number, values in enumerate(rows, start=1):
        yield _row(values, where=f"{path} row {number}")


def _csv(path: Path) -> Iterator[Row | WrongRow]:
    """Cells that hold a JSON list or object are read as such; empty cells are absent."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle, strict=True)
        previous_line = 1
        while True:
            where = f"{path}:{previous_line + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield WrongRow(where, f"the line is not CSV ({error})")
                return
            previous_line = reader.line_num
            if None in cells or None in cells.values():
                yield WrongRow(where, "the row has more or fewer cells than the header")
                continue
            yield Row(where, {name: _cell(text) for name, text in cells.items() if text})


def _parquet(path: Path) -> Iterator[Row | WrongRow]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    try:
        table: Any = load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        yield from rows_of_table(table, name=str(path))
    except (ValueError, DatasetGenerationError) as error:
        raise DataError(f"{path} is not a Parquet file: {error}", fix="write the file again") from error


def _row(values: object, *, where: str) -> Row | WrongRow:
    return Row(where, values) if isinstance(values, dict) else WrongRow(where, "the row is not an object")


def _cell(text: str) -> object:
    if text[0] in "[{":
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


_READERS: dict[str, Callable[[Path], Iterator[Row | WrongRow]]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".csv": _csv,
    ".parquet": _parquet,
}
