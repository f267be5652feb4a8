"""A disk that refuses a file becomes a message that says how much room is needed."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.errors import CacheError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def room_for(path: Path, *, needed_bytes: int, left_bytes: int) -> Iterator[None]:
    """Turns "no space left", "quota exceeded" and "file too large" inside the block into a `CacheError`.

    Args:
        path: the file being written.
        needed_bytes: its size.
        left_bytes: what all files still to be written take, this one included.

    Raises:
        CacheError: the disk has no room; every other OSError passes through.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise CacheError(
            f"no room for {path}: {error.strerror}",
            why=f"this file takes {_size(needed_bytes)}, all that is still to be written {_size(left_bytes)}; "
            "the shards before it are intact",
            fix="free that much, or choose another disk with output=DIR; the same command goes on from here",
        ) from error


def _size(num_bytes: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.2f} {unit}"
    return f"{num_bytes} bytes"
