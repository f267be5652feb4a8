"""Rows of several sequences out of mapped shards into one buffer: some Python steps a sequence, none a token."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from distill.teacher_cache.codecs import Codec, EncodedRows
from distill.teacher_cache.sequence_index import Places
from distill.teacher_cache.shard import SequencesReader, TierReader


def gathered_ids(shards: Sequence[SequencesReader], places: Places) -> Int[Tensor, " tokens"]:
    """Completion tokens at `places`, end to end."""
    buffer = np.empty(int(places.lengths.sum()), dtype=np.int64)
    _fill(buffer, [shards[number].completion_ids[start:end] for number, start, end in places])
    return torch.from_numpy(buffer)


def gathered_rows(shards: Mapping[int, TierReader], places: Places, *, codec: Codec) -> EncodedRows:
    """A tier's rows at `places`, end to end.

    Args:
        shards: the tier's shards by number, all that `places` names.
        places: which rows.
        codec: the tier's.
    """
    if codec.row_bytes is not None:
        buffer = np.empty((int(places.lengths.sum()), codec.row_bytes), dtype=np.uint8)
        _fill(buffer, [shards[number].records[start:end] for number, start, end in places])
        return EncodedRows(torch.from_numpy(buffer))
    slices = [shards[number].varying(start, end) for number, start, end in places]
    records = np.empty(sum(len(part) for part, _ in slices), dtype=np.uint8)
    entry_counts = np.empty(int(places.lengths.sum()), dtype=np.uint8)
    _fill(records, [part for part, _ in slices])
    _fill(entry_counts, [part for _, part in slices])
    return EncodedRows(torch.from_numpy(records), torch.from_numpy(entry_counts))


def _fill(buffer: NDArray[np.generic], parts: Sequence[NDArray[np.generic]]) -> None:
    ends = accumulate((len(part) for part in parts), initial=0)
    for (start, end), part in zip(pairwise(ends), parts, strict=True):
        buffer[start:end] = part
