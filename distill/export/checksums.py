"""SHA256SUMS in a folder, as `sha256sum -c` reads it."""

from pathlib import Path

from distill.errors import ExportError
from distill.files import sha256_of_file, write_text

SUMS = "SHA256SUMS"


def write_checksums(folder: Path) -> None:
    """Writes SHA256SUMS over every other file of `folder`, in order of names."""
    lines = [f"{sha256_of_file(folder / name)}  {name}" for name in _names(folder)]
    write_text(folder / SUMS, "\n".join(lines) + "\n")


def verify_checksums(folder: Path) -> None:
    """Compares every file of `folder` with SHA256SUMS.

    Raises:
        ExportError: the list is missing, or a file is missing, new or changed; names the first one.
    """
    if not (folder / SUMS).exists():
        raise ExportError(f"{folder} has no {SUMS}", why="it is no finished artefact", fix="export it again")
    lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    present = _names(folder)
    for name in sorted(set(present) | set(listed)):
        if name not in listed:
            raise ExportError(f"{folder / name} is not in {SUMS}", why="it was added later", fix="remove it")
        if name not in present:
            raise ExportError(f"{folder / name} is missing", why=f"{SUMS} lists it", fix="export it again")
        if sha256_of_file(folder / name) != listed[name]:
            raise ExportError(f"{folder / name} has changed", why=f"{SUMS} has another digest", fix="export it again")


def _names(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return sorted(name for path in files if (name := path.relative_to(folder).as_posix()) != SUMS)
