"""One shard of a tier, written batch by batch while the next one is computed; it appears whole or not at all."""

import hashlib
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import torch

from distill.files import replacing_file
from distill.teacher_cache.cache_file import WrittenFile, header_bytes
from distill.teacher_cache.codecs import Codec, EncodedRows, joined
from distill.teacher_cache.shard import tier_metadata, write_tier_shard


class _DiscardedError(Exception):
    """Unwinds the temporary file of a shard that will not be finished."""


class TierShardWriter:
    """A shard that takes its rows in parts; the file has the bytes of `write_tier_shard`.

    Rows that vary in size are held until the end, for the file begins with their total.
    """

    def __init__(self, path: Path, *, codec: Codec, sequences_sha256: str, num_tokens: int) -> None:
        self.path, self._codec, self._sequences_sha256 = path, codec, sequences_sha256
        self._open_tokens = num_tokens
        self._held: list[EncodedRows] = []
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._file: BinaryIO | None = None
        with ExitStack() as opened:
            if codec.row_bytes is not None:
                partial = opened.enter_context(replacing_file(path))
                self._file = opened.enter_context(partial.open("wb"))
                shape = (num_tokens, codec.row_bytes)
                metadata = tier_metadata(codec, sequences_sha256)
                self._write(header_bytes({"records": (torch.uint8, shape)}, metadata=metadata))
            self._stack = opened.pop_all()

    def append(self, rows: EncodedRows) -> None:
        """The next rows in order."""
        assert rows.num_tokens <= self._open_tokens
        self._open_tokens -= rows.num_tokens
        if self._file is None:
            self._held.append(rows)
        else:
            self._write(rows.records.contiguous().numpy().reshape(-1).data)

    def commit(self) -> WrittenFile:
        """Puts the file in its place; all rows must have come."""
        assert self._open_tokens == 0
        if self._file is None:
            rows = joined(self._held)
            return write_tier_shard(self.path, rows, codec=self._codec, sequences_sha256=self._sequences_sha256)
        self._stack.close()
        return WrittenFile(self._digest.hexdigest(), self._size_bytes)

    def discard(self) -> None:
        """Removes what was written; nothing after a commit."""
        self._held.clear()
        with suppress(_DiscardedError, OSError):  # on a full disk the buffer cannot be emptied either
            self._stack.__exit__(_DiscardedError, _DiscardedError(), None)

    def _write(self, content: bytes | memoryview) -> None:
        assert self._file is not None
        self._digest.update(content)
        self._file.write(content)
        self._size_bytes += len(content)
