"""The header of a safetensors file: JSON of each tensor's dtype, shape and place, with its length before it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

METADATA = "__metadata__"
_LENGTH_BYTES, _MULTIPLE = 8, 8


def read_header(stream: BinaryIO) -> dict[str, dict[str, Any]]:
    """The header at the start of `stream`, metadata included; leaves the stream where the values begin."""
    header: dict[str, dict[str, Any]] = json.loads(stream.read(int.from_bytes(stream.read(_LENGTH_BYTES), "little")))
    return header


def tensors_of(file: Path) -> dict[str, dict[str, Any]]:
    """What the header of `file` says of its tensors (`dtype`, `shape`, `data_offsets`), by name."""
    with file.open("rb") as stream:
        return {name: entry for name, entry in read_header(stream).items() if name != METADATA}


def header_bytes(header: Mapping[str, object]) -> bytes:
    """The header as a file begins with it: filled with spaces, so that the values start at a multiple of 8."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _MULTIPLE)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text
