"""Encoded tokens in memory: bytes, and how many of them each token takes where that varies."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

# Rows that vary are made of entries of this size.
ENTRY_BYTES = 3


@dataclass(frozen=True)
class EncodedRows:
    """Tokens end to end, as a shard stores them.

    `records` is uint8: [tokens, row_bytes] where every token takes the same number of bytes, else [bytes] with
    `entry_counts` (uint8 [tokens]) entries of `ENTRY_BYTES` each. Values wider than a byte are little-endian.
    """

    records: Tensor
    entry_counts: Tensor | None = None

    @property
    def num_tokens(self) -> int:
        """How many tokens the rows tell about."""
        return len(self.records if self.entry_counts is None else self.entry_counts)

    @property
    def size_bytes(self) -> int:
        """Bytes of everything stored."""
        return self.records.nbytes + (0 if self.entry_counts is None else self.entry_counts.nbytes)

    def split(self, lengths: Sequence[int]) -> list["EncodedRows"]:
        """The rows cut into parts of so many tokens each: views, in order.

        Args:
            lengths: tokens of each part; together all of them.
        """
        assert sum(lengths) == self.num_tokens
        if self.entry_counts is None:
            return [EncodedRows(part) for part in torch.split(self.records, list(lengths))]
        counts = torch.split(self.entry_counts, list(lengths))
        ends = [0, *accumulate(ENTRY_BYTES * int(part.sum(dtype=torch.int64)) for part in counts)]
        parts = [self.records[start:end] for start, end in pairwise(ends)]
        return [EncodedRows(part, own) for part, own in zip(parts, counts, strict=True)]


def joined(parts: Sequence[EncodedRows]) -> EncodedRows:
    """Rows of one codec end to end; the opposite of `split`."""
    if len(parts) == 1:
        return parts[0]
    counts = [part.entry_counts for part in parts if part.entry_counts is not None]
    assert len(counts) in (0, len(parts)), "rows of one codec"
    return EncodedRows(torch.cat([part.records for part in parts]), torch.cat(counts) if counts else None)


def as_bytes(values: Tensor) -> Tensor:
    """The bytes of `values`, which are [tokens, columns]: uint8 [tokens, columns * itemsize]."""
    return values.contiguous().view(torch.uint8)


def as_values(records: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes [tokens, columns * itemsize] read as `dtype` [tokens, columns]; copied only where they are not aligned."""
    if len(records) == 0:
        return torch.empty(0, records.shape[1] // dtype.itemsize, dtype=dtype)
    if not records.is_contiguous() or records.storage_offset() % dtype.itemsize:
        records = records.clone(memory_format=torch.contiguous_format)
    return records.view(dtype)
