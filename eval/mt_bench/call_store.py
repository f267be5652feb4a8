"""Every finished call of a judge, one JSON line each: on the disk before the next is waited for, whatever happens.

The first line names format and version. A last line that a kill or a full disk cut off is cut away when the store is
opened for writing, and the call is asked again. A failed call stands here too, and nowhere else.
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from distill.errors import DataError, StageError
from distill.files import locked

log = logging.getLogger(__name__)

HEADER = {"format": "distill-judge-calls", "version": 1}


@dataclass(frozen=True)
class Call:
    """One finished call, `failed` where it brought no reply.

    Attributes:
        key: see `eval.judges.base.call_key`.
        status: `done` or `failed`; whether a reply holds a verdict is read from it, not stored.
        judge_sha: of the judge's identity.
        prompt_sha: of the judge prompt.
        question_sha: of the turns and the reference that were shown.
        question_id: of FastChat's rows, as are `turn`, `prompt` (its name), `user_prompt` and `tstamp`.
        models: one, or two in the order shown.
        text: the judge's words, whole.
        own_verdict: of a judge that writes none: status, rule, score, winner.
    """

    key: str
    status: Literal["done", "failed"]
    judge_sha: str
    prompt_sha: str
    question_sha: str
    reference_set: str | None
    question_id: int
    turn: int
    models: tuple[str, ...]
    game: int
    repeat: int
    prompt: str
    output_format: str
    user_prompt: str
    text: str
    finish_reason: str | None
    own_verdict: Mapping[str, object] | None
    model: str
    system_fingerprint: str | None
    num_prompt_tokens: int | None
    num_completion_tokens: int | None
    left_out: tuple[str, ...]
    error: str | None
    tstamp: float

    @property
    def slot(self) -> tuple[object, ...]:
        """Which row, order and repeat it is for, whatever the answers and settings were."""
        return (self.question_id, self.turn, self.models, self.repeat)


def read_calls(path: Path) -> list[Call]:
    """The calls of a store in the order in which they finished; none where there is no file.

    A torn last line is left out.

    Raises:
        DataError: the file is no store of calls of this version, or an earlier line is damaged; names file and line.
    """
    return _calls_and_length(path)[0]


def latest_calls(calls: Iterable[Call]) -> dict[str, Call]:
    """The call that counts of each key: the last, but a failure never displaces a reply."""
    latest: dict[str, Call] = {}
    for call in calls:
        if call.status == "done" or call.key not in latest or latest[call.key].status == "failed":
            latest[call.key] = call
    return latest


class CallStore:
    """A store that is open for writing; see `open_calls`."""

    def __init__(self, path: Path, calls: list[Call], descriptor: int) -> None:
        self.path, self.calls, self._descriptor = path, calls, descriptor

    def append(self, call: Call) -> None:
        """Writes a call and waits until it is on the disk.

        Raises:
            StageError: it does not fit; the store stands as it was before.
        """
        _append_line(self._descriptor, json.dumps(asdict(call), ensure_ascii=False, allow_nan=False), path=self.path)
        self.calls.append(call)


@contextmanager
def open_calls(path: Path) -> Iterator[CallStore]:
    """Opens a store for this process alone, a torn last line cut off.

    Raises:
        StageError: another process writes it.
        DataError: it is damaged.
    """
    with locked(path.with_name(f".{path.name}.lock")):
        calls, length = _calls_and_length(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if (size := os.fstat(descriptor).st_size) > length:
                log.warning("%s: the last line was cut off and is left out (%d bytes)", path, size - length)
                os.ftruncate(descriptor, length)
            if length == 0:
                _append_line(descriptor, json.dumps(HEADER), path=path)
                _sync_folder(path.parent)
            yield CallStore(path, calls, descriptor)
        finally:
            os.close(descriptor)


def _append_line(descriptor: int, line: str, *, path: Path) -> None:
    size = os.fstat(descriptor).st_size
    left = f"{line}\n".encode()
    try:
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError as error:
        os.ftruncate(descriptor, size)
        raise StageError(
            f"{path} cannot be written: {error.strerror}",
            why="a verdict that is not on the disk would be asked, and paid for, again",
            fix="make room, then run the same command: what is in the file is not asked again",
        ) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _calls_and_length(path: Path) -> tuple[list[Call], int]:
    """The whole lines' calls, and where the last of them ends, in bytes."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    lines = data.splitlines(keepends=True)
    calls: list[Call] = []
    length = 0
    for number, line in enumerate(lines, start=1):
        row = _row(line)
        if row is None and number == len(lines):
            break
        if number == 1:
            if row != HEADER:
                raise DataError(f"{path} is no store of judge's calls of version 1", fix="move it away and judge again")
        else:
            calls.append(_call_from(row, where=f"{path}:{number}"))
        length += len(line)
    return calls, length


def _row(line: bytes) -> Any:
    """A line's value, None where it is torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None


def _call_from(row: Any, *, where: str) -> Call:
    if not isinstance(row, dict) or row.keys() != Call.__dataclass_fields__.keys():
        raise DataError(f"{where} is no judge's call", why="it is damaged", fix="delete the line: it is asked again")
    return Call(**{**row, "models": tuple(row["models"]), "left_out": tuple(row["left_out"])})
