"""Files that appear whole or not at all; checksums, fingerprints and locks."""

import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from distill.errors import DataError, StageError


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path; on a clean exit it is synced and renamed to `path`, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        yield partial
        with partial.open("rb") as handle:
            os.fsync(handle.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder; on a clean exit it takes the place of `path`, else it is removed.

    What a writer that was killed left behind is put right first, so one process at a time may write `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_after_a_kill(path)
    tag = uuid.uuid4().hex[:8]
    partial = path.with_name(f".{path.name}.{tag}.partial")
    outgoing = path.with_name(f".{path.name}.{tag}.outgoing")
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.rename(outgoing)
        partial.rename(path)
    finally:
        if outgoing.exists():
            if not path.exists():
                outgoing.rename(path)
            shutil.rmtree(outgoing, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)


def _clear_after_a_kill(path: Path) -> None:
    """Puts the old folder back where a writer died between its two renames, and removes what dead writers left."""
    tag = "[0-9a-f]" * 8
    left = {
        kind: [found for found in path.parent.glob(f".{glob.escape(path.name)}.{tag}.{kind}") if found.is_dir()]
        for kind in ("outgoing", "partial")
    }
    if left["outgoing"] and not path.exists():
        max(left["outgoing"], key=lambda folder: folder.stat().st_mtime_ns).rename(path)
    for folder in (*left["outgoing"], *left["partial"]):
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with replacing_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Writes `value` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> int:
    """Writes one JSON object a line, whole or not at all; returns how many."""
    count = 0
    with replacing_file(path) as partial, partial.open("w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def read_json(path: Path) -> dict[str, object]:
    """Reads a JSON object.

    Raises:
        DataError: the file is missing, is not JSON, or is not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", fix="check the path") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, digits without end, brackets without end
        raise DataError(f"{path} is not JSON: {error}", fix="write the file again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds a {type(value).__name__}", why="an object was expected")
    return value


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields (line number from 1, object) for each line that is not blank.

    Raises:
        DataError: the file is missing or a line is not a JSON object; names file and line.
    """
    try:
        handle = path.open(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", fix="check the path") from error
    with handle:
        try:
            for number, line in enumerate(handle, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}:{number} is not JSON: {error}", fix="mend or delete the line") from error
                if not is_text("" if "\\ud" not in line.lower() else json.dumps(row, ensure_ascii=False)):
                    raise DataError(
                        f"{path}:{number} holds half a character (a lone \\ud8.. or \\udc..)",
                        why="it cannot be written as UTF-8",
                        fix="mend or delete the line",
                    )
                if not isinstance(row, dict):
                    raise DataError(f"{path}:{number} holds a {type(row).__name__}", why="an object was expected")
                yield number, row
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8: {error}", fix="convert the file to UTF-8") from error


def is_text(text: str) -> bool:
    """Whether text can be written as UTF-8: JSON's escapes let halves of characters through."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def sha256_of_file(path: Path) -> str:
    """The hex sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def fingerprint(value: object) -> str:
    """The hex sha256 of a JSON-able value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_of_folder(folder: Path, *, pattern: str = "*") -> str:
    """The hex sha256 over names and contents of a folder's files, so that a moved folder keeps its own."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    return fingerprint([[path.relative_to(folder).as_posix(), sha256_of_file(path)] for path in files])


@contextmanager
def locked(path: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Holds the lock file `path`, or refuses when another process still holds it after `wait_s` seconds.

    Raises:
        StageError: another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait_s)
    try:
        lock.acquire()
    except Timeout as error:
        raise StageError(
            f"{path.parent} is in use by another process",
            why="two runs writing one folder would damage it",
            fix="wait for the other run, or choose another folder with output=DIR",
        ) from error
    try:
        yield
    finally:
        lock.release()
