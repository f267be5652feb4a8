"""The shards of a cache: sequences and tiers, written whole, checked when opened, then read memory-mapped.

`sequences/NNNNN.safetensors` (n sequences, t completion tokens in all), one a shard, shared by all tiers:

    offsets          int64  [n + 1]   sequence i takes rows offsets[i] to offsets[i + 1]
    completion_ids   int32  [t]
    ids              uint8  [n, 32]   sequence ids as bytes

`CODEC/NNNNN.safetensors`, row r for completion token r of the sequences of the same number:

    records          uint8  [t, row_bytes], or [bytes] where rows vary
    entry_counts     uint8  [t]       entries of each row; only where rows vary

The metadata's key `distill` names format and version, in a tier codec and sha256 of the sequences file too, so that
rows meet the tokens they were computed from or are refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.teacher_cache.cache_file import (
    WrittenFile,
    damaged,
    mapped_file,
    require_metadata,
    require_shapes,
    write_tensors,
)
from distill.teacher_cache.codecs import ENTRY_BYTES, Codec, EncodedRows
from distill.teacher_cache.manifest import VERSION, FileRecord
from distill.teacher_cache.plan import PlannedSequence

SEQUENCES_FORMAT = "distill-teacher-sequences"
TIER_FORMAT = "distill-teacher-tier"
ID_BYTES = 32

_SEQUENCES_METADATA: dict[str, object] = {"format": SEQUENCES_FORMAT, "version": VERSION}
# Entries of rows that vary are counted up to every 256th row, the rest on demand: 1/32 byte of memory a token.
_COUNTED_ROWS = 256


def write_sequences(path: Path, planned: Sequence[PlannedSequence]) -> FileRecord:
    """Writes a sequences file, whole or not at all; equal sequences give equal bytes.

    Returns:
        Its record for the manifest.
    """
    offsets = np.cumsum([0, *(sequence.num_tokens for sequence in planned)], dtype=np.int64)
    ids = np.frombuffer(bytes.fromhex("".join(sequence.id for sequence in planned)), dtype=np.uint8)
    completion_ids = [np.array(sequence.sequence.completion_ids, dtype=np.int32) for sequence in planned]
    tensors = {
        "offsets": torch.from_numpy(offsets),
        "completion_ids": torch.from_numpy(np.concatenate(completion_ids)),
        "ids": torch.from_numpy(ids.reshape(-1, ID_BYTES).copy()),
    }
    written = write_tensors(path, tensors, metadata=_SEQUENCES_METADATA)
    return FileRecord(
        name=path.name,
        sha256=written.sha256,
        size_bytes=written.size_bytes,
        num_sequences=len(planned),
        num_tokens=int(offsets[-1]),
    )


def write_tier_shard(path: Path, rows: EncodedRows, *, codec: Codec, sequences_sha256: str) -> WrittenFile:
    """Writes a shard of a tier, whole or not at all; equal rows give equal bytes. Its record is not written here.

    Args:
        path: `manifest.tier_path`.
        rows: of all sequences of the shard, in the order of its sequences file.
        codec: the tier's.
        sequences_sha256: checksum of that sequences file.

    Returns:
        Checksum and size for the shard's record.
    """
    tensors = {"records": rows.records}
    if rows.entry_counts is not None:
        tensors["entry_counts"] = rows.entry_counts
    assert all(tensor.dtype == torch.uint8 for tensor in tensors.values())
    return write_tensors(path, tensors, metadata=tier_metadata(codec, sequences_sha256))


class SequencesReader:
    """Ids, offsets and completion tokens of one shard, checked.

    Args:
        path: the file.
        vocab_size: of the teacher, where known; no completion token may lie beyond.

    Raises:
        CacheError: the file is missing, cut off, of another format, or contradicts itself; names it.
    """

    def __init__(self, path: Path, *, vocab_size: int | None = None) -> None:
        self.path = path
        tensors = mapped_file(path, {"offsets": torch.int64, "completion_ids": torch.int32, "ids": torch.uint8})
        require_metadata(path, tensors.metadata, _SEQUENCES_METADATA)
        num_sequences, num_tokens = self._counts(tensors.shapes)
        require_shapes(
            path,
            tensors.shapes,
            {"offsets": [num_sequences + 1], "completion_ids": [num_tokens], "ids": [num_sequences, ID_BYTES]},
        )
        self.completion_ids: NDArray[np.int32] = tensors.values["completion_ids"].numpy()
        self.offsets: NDArray[np.int64] = tensors.values["offsets"].numpy()
        self.ids: NDArray[np.uint8] = tensors.values["ids"].numpy()
        self._check_offsets(num_tokens)
        self._check_tokens(vocab_size)
        if len(np.unique(self.ids.view(f"V{ID_BYTES}"))) != num_sequences:
            raise damaged(path, "a sequence id stands in it twice")

    @property
    def num_sequences(self) -> int:
        """Sequences in the shard."""
        return len(self.ids)

    @property
    def num_tokens(self) -> int:
        """Completion tokens in the shard."""
        return int(self.offsets[-1])

    @property
    def sequence_ids(self) -> tuple[str, ...]:
        """Ids in the order of the rows."""
        return tuple(row.tobytes().hex() for row in self.ids)

    def _counts(self, shapes: Mapping[str, list[int]]) -> tuple[int, int]:
        if len(shapes["ids"]) != 2 or shapes["ids"][0] == 0:
            raise damaged(self.path, f"ids has shape {shapes['ids']}")
        if len(shapes["completion_ids"]) != 1:
            raise damaged(self.path, f"completion_ids has shape {shapes['completion_ids']}")
        return shapes["ids"][0], shapes["completion_ids"][0]

    def _check_offsets(self, num_tokens: int) -> None:
        climbs = bool((self.offsets[1:] > self.offsets[:-1]).all())
        if self.offsets[0] != 0 or self.offsets[-1] != num_tokens or not climbs:
            raise damaged(self.path, f"offsets do not climb from 0 to {num_tokens}")

    def _check_tokens(self, vocab_size: int | None) -> None:
        lowest, highest = int(self.completion_ids.min()), int(self.completion_ids.max())
        if lowest < 0 or (vocab_size is not None and highest >= vocab_size):
            wrong = lowest if lowest < 0 else highest
            raise damaged(self.path, f"completion_ids holds {wrong}, the vocabulary has {vocab_size} tokens")


class TierReader:
    """The rows of one shard of a tier, checked; nothing is read before it is asked for, and never all at once.

    Args:
        path: the shard.
        codec: its tier's.
        num_tokens: completion tokens of the sequences file, one row each.
        sequences_sha256: checksum of that file.

    Raises:
        CacheError: the file is missing, cut off, of another tier, or belongs to other sequences; names it.
    """

    def __init__(self, path: Path, codec: Codec, *, num_tokens: int, sequences_sha256: str) -> None:
        self.path, self.codec, self.num_tokens = path, codec, num_tokens
        row_bytes = codec.row_bytes
        names = ("records",) if row_bytes is not None else ("records", "entry_counts")
        tensors = mapped_file(path, dict.fromkeys(names, torch.uint8))
        require_metadata(path, tensors.metadata, tier_metadata(codec, sequences_sha256))
        expected: dict[str, list[int | None]] = {"records": [num_tokens, row_bytes]}
        if row_bytes is None:
            if len(tensors.shapes["records"]) != 1:
                raise damaged(path, f"records has shape {tensors.shapes['records']}")
            expected = {"records": [*tensors.shapes["records"]], "entry_counts": [num_tokens]}
        require_shapes(path, tensors.shapes, expected)
        self.records: NDArray[np.uint8] = tensors.values["records"].numpy()
        self.entry_counts: NDArray[np.uint8] | None = None
        if row_bytes is None:
            self.entry_counts = tensors.values["entry_counts"].numpy()
            self._count_entries(self.entry_counts)

    def varying(self, start: int, end: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Views of the bytes and the entry counts of the rows from `start` to `end`, where rows vary."""
        assert self.entry_counts is not None
        return self.records[self._byte_offset(start) : self._byte_offset(end)], self.entry_counts[start:end]

    def rows(self, start: int, end: int) -> EncodedRows:
        """A copy of the rows from `start` to `end`."""
        assert 0 <= start <= end <= self.num_tokens
        if self.entry_counts is None:
            return EncodedRows(torch.from_numpy(self.records[start:end].copy()))
        records, counts = self.varying(start, end)
        return EncodedRows(torch.from_numpy(records.copy()), torch.from_numpy(counts.copy()))

    def check_numbers(self) -> None:
        """Reads every row, some at a time, and refuses numbers that the codec cannot have written.

        Raises:
            CacheError: names the file, the first row of the part that is wrong, and what is.
        """
        block_rows = max(1, int(2**24 // max(1.0, self.codec.bytes_per_token())))
        for start in range(0, self.num_tokens, block_rows):
            problem = self.codec.check(self.rows(start, min(start + block_rows, self.num_tokens)))
            if problem is not None:
                raise damaged(self.path, f"its rows from {start} on are no {self.codec.settings.codec}: {problem}")

    def _count_entries(self, counts: NDArray[np.uint8]) -> None:
        """Where every 256th row begins."""
        sums = np.add.reduceat(counts, np.arange(0, len(counts), _COUNTED_ROWS), dtype=np.int64)
        self._block_entries: NDArray[np.int64] = np.concatenate([[0], np.cumsum(sums)])
        expected = int(self._block_entries[-1]) * ENTRY_BYTES
        if len(self.records) != expected:
            raise damaged(self.path, f"its entry counts promise {expected} bytes, records has {len(self.records)}")

    def _byte_offset(self, row: int) -> int:
        assert self.entry_counts is not None
        block = row // _COUNTED_ROWS
        begun = self.entry_counts[block * _COUNTED_ROWS : row].sum(dtype=np.int64)
        return int(self._block_entries[block] + begun) * ENTRY_BYTES


def tier_metadata(codec: Codec, sequences_sha256: str) -> dict[str, object]:
    """What a tier's shard says of itself: which encoding of which sequences."""
    return {
        "format": TIER_FORMAT,
        "version": VERSION,
        "codec": codec.settings.codec,
        "sequences_sha256": sequences_sha256,
    }
