"""The safetensors files of a cache: written whole and block by block; mapped once their headers were checked.

What a file claims is checked before it is used: the size of its header, names, dtypes and shapes. A file is taken to
stay as it is while it is mapped: who cuts it off under a reader's feet ends that process with SIGBUS. The writers
here replace files, which leaves what is mapped intact.
"""

import errno
import hashlib
import json
import math
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill.errors import CacheError
from distill.files import replacing_file

# Ours take some hundred bytes; safetensors itself would parse up to 100 MB.
MAX_HEADER_BYTES = 2**16
MAX_AXES = 2
_BLOCK_BYTES = 2**26

_DTYPE_NAMES = {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8"}


@dataclass(frozen=True)
class WrittenFile:
    """Checksum and size of a file, known from writing it."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class MappedFile:
    """Tensors of a file as views of it, their shapes, and its metadata."""

    metadata: object
    shapes: dict[str, list[int]]
    values: dict[str, Tensor]


def header_bytes(tensors: Mapping[str, tuple[torch.dtype, Sequence[int]]], *, metadata: Mapping[str, object]) -> bytes:
    """What stands before the tensors in a safetensors file.

    Args:
        tensors: dtype and shape of each, in the order they follow: widest dtype first, as alignment asks.
        metadata: stands as JSON under the key `distill`.
    """
    entries: dict[str, object] = {"__metadata__": {"distill": json.dumps(metadata)}}
    position = 0
    for name, (dtype, shape) in tensors.items():
        end = position + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, object]) -> WrittenFile:
    """Writes a safetensors file, whole or not at all; equal tensors give equal bytes.

    safetensors' own writer copies all tensors into one string first, and reports a full disk without its errno.
    """
    header = header_bytes({name: (t.dtype, t.shape) for name, t in tensors.items()}, metadata=metadata)
    contents = [np.frombuffer(header, dtype=np.uint8)]
    contents += [t.detach().cpu().contiguous().numpy().reshape(-1).view(np.uint8) for t in tensors.values()]
    digest = hashlib.sha256()
    with replacing_file(path) as partial, partial.open("wb") as handle:
        for content in contents:
            for start in range(0, len(content), _BLOCK_BYTES):
                block = content[start : start + _BLOCK_BYTES].data
                digest.update(block)
                handle.write(block)
    return WrittenFile(digest.hexdigest(), sum(map(len, contents)))


def mapped_file(path: Path, dtypes: Mapping[str, torch.dtype]) -> MappedFile:
    """Maps a file that holds just these tensors; shapes are checked by the caller."""
    check_header_size(path)
    try:
        with safe_open(path, framework="pt") as opened:
            file: Any = opened
            found, metadata = set(file.keys()), file.metadata() or {}
            wrong = sorted(found ^ dtypes.keys())
            if wrong:
                raise damaged(path, f"its tensors differ from the layout in {', '.join(wrong)}")
            slices = {name: file.get_slice(name) for name in dtypes}
            for name, dtype in dtypes.items():
                if slices[name].get_dtype() != _DTYPE_NAMES[dtype]:
                    raise damaged(path, f"{name} is {slices[name].get_dtype()}, not {_DTYPE_NAMES[dtype]}")
            shapes = {name: [int(size) for size in slices[name].get_shape()] for name in dtypes}
            size_bytes = path.stat().st_size
            for name, shape in shapes.items():
                # torch and numpy stop with errors of their own at more axes, and at sizes that only a 0 makes fit.
                if not len(shape) <= MAX_AXES or any(size > size_bytes for size in shape):
                    raise damaged(path, f"{name} has shape {shape!r:.80}, which no file of {size_bytes} bytes holds")
            values = {name: file.get_tensor(name) for name in dtypes}
    except (OSError, SafetensorError) as error:
        raise damaged(path, f"the file cannot be opened: {error}") from error
    try:
        distill_metadata = json.loads(metadata["distill"])
    except (KeyError, ValueError, RecursionError) as error:
        raise damaged(path, "it is not a file of a teacher cache") from error
    return MappedFile(distill_metadata, shapes, values)


def require_metadata(path: Path, found: object, expected: Mapping[str, object]) -> None:
    """Refuses a file whose metadata is not what was expected."""
    if found != expected:
        raise damaged(path, f"its header says {found!r:.200}, not {expected!r:.200}")


def require_shapes(path: Path, found: Mapping[str, list[int]], expected: Mapping[str, Sequence[int | None]]) -> None:
    """Refuses a file with a tensor of another shape."""
    for name, shape in expected.items():
        if found[name] != list(shape):
            raise damaged(path, f"{name} has shape {found[name]}, not {list(shape)}")


def check_header_size(path: Path) -> None:
    """Reads sizes before anything is mapped or parsed.

    Raises:
        CacheError: the file is missing, too short for its header, or claims a header of absurd size.
    """
    try:
        size_bytes = _plain_file_size(path)
        with path.open("rb") as handle:
            header_bytes = int.from_bytes(handle.read(8), "little")
    except FileNotFoundError as error:
        raise damaged(path, "the file is missing") from error
    except OSError as error:
        raise damaged(path, f"the file cannot be opened: {error}") from error
    if size_bytes < 8 or 8 + header_bytes > size_bytes:
        raise damaged(path, f"the file cannot be opened: {size_bytes} bytes cannot hold its header")
    if header_bytes > MAX_HEADER_BYTES:
        raise damaged(path, f"its header claims {header_bytes} bytes, more than {MAX_HEADER_BYTES}")


def plain_file_bytes(path: Path, *, max_bytes: int) -> bytes:
    """Content of a small file.

    Raises:
        OSError: it is missing, cannot be read, is larger, or is no plain file: a pipe or a device may never end.
    """
    size_bytes = _plain_file_size(path)
    if size_bytes > max_bytes:
        raise OSError(errno.EFBIG, f"it has {size_bytes} bytes, more than {max_bytes}", str(path))
    return path.read_bytes()


def _plain_file_size(path: Path) -> int:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return found.st_size


def damaged(path: Path, problem: str) -> CacheError:
    """The error for a file of a cache that cannot be believed."""
    return CacheError(
        f"{path.parent.name}/{path.name} of the teacher cache is damaged: {problem}",
        why=f"{path} is not what the manifest says was written",
        fix=f"delete {path} and make the cache again; only this file is written anew",
    )
