"""SHA256SUMS in a folder, as `sha256sum -c` reads it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from distill.errors import ArtefactError
from distill.files import sha256_of_file, write_text

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\\\x00-\x1f]+)")


def write_checksums(folder: Path) -> None:
    """Writes SHA256SUMS over every other file of `folder`, in order of names.

    Raises:
        ArtefactError: the folder holds a link or something else that is no plain file.
    """
    lines = [f"{sha256_of_file(folder / name)}  {name}" for name in _names(folder)]
    write_text(folder / SUMS, "\n".join(lines) + "\n")


def verify_checksums(folder: Path) -> None:
    """Compares every file of `folder` with SHA256SUMS.

    Raises:
        ArtefactError: the list is missing or is none, a file is missing, new or changed, or is no plain file; names
            the first one.
    """
    listed = _listed(folder)
    present = _names(folder)
    for name in sorted(set(present) | set(listed)):
        if name not in listed:
            raise ArtefactError(f"{folder / name} is not in {SUMS}", why="it was added later", fix="remove it")
        if name not in present:
            raise ArtefactError(f"{folder / name} is missing", why=f"{SUMS} lists it", fix="export it again")
        if sha256_of_file(folder / name) != listed[name]:
            raise ArtefactError(f"{folder / name} has changed", why=f"{SUMS} has another digest", fix="export it again")


def listed_files(folder: Path) -> tuple[str, ...]:
    """Names of the files under checksums, SHA256SUMS itself excepted, in its order.

    Raises:
        ArtefactError: the list is missing or is none.
    """
    return tuple(_listed(folder))


def _listed(folder: Path) -> dict[str, str]:
    """Digest by name; a name is a path inside the folder, written in one way only."""
    path = folder / SUMS
    if path.is_symlink() or not path.is_file():
        raise ArtefactError(f"{folder} has no {SUMS}", why="it is no finished artefact", fix="export it again")
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ArtefactError(f"{path} is not UTF-8", why=str(error), fix="export it again") from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        row = _LINE.fullmatch(line)
        if row is None or not _is_inside(row[2]):
            raise ArtefactError(
                f"{path}:{number} is {line!r:.100}",
                why="a line is a sha256, two spaces and the name of a file inside the folder",
                fix="export it again",
            )
        if row[2] in found:
            raise ArtefactError(f"{path}:{number} lists {row[2]} a second time", fix="export it again")
        found[row[2]] = row[1]
    return found


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return name != SUMS and "/".join(parts) == name and not {"..", "/", "."} & set(parts)


def _names(folder: Path) -> list[str]:
    return sorted(name for name in _plain_files(folder) if name != SUMS)


def _plain_files(folder: Path) -> Iterator[str]:
    """Every file's path in `folder`; a link could change what it names without a byte changing here."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from (f"{entry.name}/{name}" for name in _plain_files(path))
            elif entry.is_file(follow_symlinks=False):
                yield entry.name
            else:
                kind = "a symbolic link" if entry.is_symlink() else "no plain file"
                raise ArtefactError(
                    f"{path} is {kind}",
                    why="checksums are of files; what a link names may change",
                    fix="put the file itself in its place (cp --remove-destination), or export it again",
                )
