"""Rows that are on disk the moment they are made: appended and synced, named by a key, read back after any end."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.errors import DataError
from distill.files import write_text

log = logging.getLogger(__name__)

FORMAT, VERSION = "distill-rows", 1


class RowJournal:
    """A file of JSON rows that only grows; its first line says what the rows were made from.

    A process that is killed while it appends leaves half a line at most, which the next one cuts off: a row is there
    or not, and never twice.

    Args:
        path: the file; made where it is not there.
        made_of: fingerprint of models, sampling and seed; a file made of something else is begun afresh.

    Raises:
        DataError: a line is damaged, or a key stands twice.
    """

    def __init__(self, path: Path, *, made_of: str) -> None:
        self.path = path
        self._header = {"format": FORMAT, "version": VERSION, "made_of": made_of}
        self._rows = self._read() if path.exists() else None
        if self._rows is None:
            write_text(path, json.dumps(self._header) + "\n")
            self._rows = {}

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rows(self) -> Mapping[str, dict[str, object]]:
        """The rows by key, in the order in which they were appended."""
        assert self._rows is not None
        return self._rows

    def append(self, rows: Sequence[tuple[str, Mapping[str, object]]]) -> None:
        """Appends rows of new keys; they are on disk when this returns."""
        assert self._rows is not None
        assert not any(key in self._rows for key, _ in rows), "a row is made once"
        lines = [json.dumps({"key": key, **row}, ensure_ascii=False, allow_nan=False) + "\n" for key, row in rows]
        with self.path.open("ab") as handle:
            handle.write("".join(lines).encode())
            handle.flush()
            os.fsync(handle.fileno())
        self._rows.update((key, dict(row)) for key, row in rows)

    def _read(self) -> dict[str, dict[str, object]] | None:
        """What stands in the file, half a line at its end cut off; None where it was made of something else."""
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        if not lines or self._parsed(lines[0], 1) != self._header:
            log.info("%s was made of something else: begun afresh", self.path.name)
            return None
        if len(whole) < len(data):
            log.info("%s ends in half a row, which is made again", self.path.name)
            with self.path.open("r+b") as handle:
                handle.truncate(len(whole))
                os.fsync(handle.fileno())
        found: dict[str, dict[str, object]] = {}
        for number, line in enumerate(lines[1:], start=2):
            row = self._parsed(line, number)
            key = row.pop("key", None)
            if not isinstance(key, str) or key in found:
                raise self._damage(number, "its key is missing or stands twice")
            found[key] = row
        return found

    def _parsed(self, line: bytes, number: int) -> dict[str, object]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise self._damage(number, "the line is no JSON object")
        return row

    def _damage(self, number: int, why: str) -> DataError:
        return DataError(
            f"{self.path}:{number} is damaged",
            why=why,
            fix="delete the file; its rows are then made again",
        )
