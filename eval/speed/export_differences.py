"""Two GGUF files of one model side by side: which metadata and which tensors are not the same, byte by byte."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

_HEADER = "GGUF."


@dataclass(frozen=True)
class Differences:
    """What one file has and the other has not, by name, sorted; `tensors` differ in type, shape or bytes."""

    num_tensors: int
    tensors: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    values: tuple[str, ...]


def differences(first: Path, second: Path) -> Differences:
    """Compares two files; a tensor that only one of them has counts as different."""
    readers = gguf.GGUFReader(first), gguf.GGUFReader(second)
    ours, theirs = ({t.name: t for t in reader.tensors} for reader in readers)
    names = sorted(ours.keys() | theirs.keys())
    metadata = [_metadata(reader) for reader in readers]
    keys = metadata[0].keys() & metadata[1].keys()
    return Differences(
        num_tensors=len(names),
        tensors=tuple(name for name in names if not _is_same(ours.get(name), theirs.get(name))),
        only_first=tuple(sorted(metadata[0].keys() - keys)),
        only_second=tuple(sorted(metadata[1].keys() - keys)),
        values=tuple(sorted(key for key in keys if metadata[0][key] != metadata[1][key])),
    )


def _metadata(reader: Any) -> Mapping[str, object]:
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith(_HEADER)}


def _is_same(first: Any, second: Any) -> bool:
    if first is None or second is None or first.tensor_type != second.tensor_type:
        return False
    return first.shape.tolist() == second.shape.tolist() and bool(first.data.tobytes() == second.data.tobytes())
