"""Where each sequence of a cache stands: ids to shards and rows, in arrays rather than a dictionary of strings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.teacher_cache.cache_file import damaged
from distill.teacher_cache.shard import ID_BYTES, SequencesReader

_ID_CHARACTERS = 2 * ID_BYTES


@dataclass(frozen=True)
class Places:
    """Shard, first row and end row of each sequence asked for, in the order asked."""

    shards: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Completion tokens of each sequence."""
        lengths: NDArray[np.int64] = self.ends - self.starts
        return lengths

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return zip(self.shards.tolist(), self.starts.tolist(), self.ends.tolist(), strict=True)


class SequenceIndex:
    """Ids and the order that sorts them: 60 bytes of memory a sequence, and look-ups by bisection.

    Args:
        shards: the sequences of every shard, in order.

    Raises:
        CacheError: a sequence stands in two shards; names the second.
    """

    def __init__(self, shards: Sequence[SequencesReader]) -> None:
        self._ids = np.concatenate([shard.ids for shard in shards])
        self._shard = np.repeat(np.arange(len(shards), dtype=np.int32), [shard.num_sequences for shard in shards])
        self._starts = np.concatenate([shard.offsets[:-1] for shard in shards])
        self._ends = np.concatenate([shard.offsets[1:] for shard in shards])
        self._order = np.argsort(_as_text(self._ids), kind="stable")
        self._refuse_duplicates(shards)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def sequence_ids(self) -> list[str]:
        """All ids, shard after shard, in the order of their rows."""
        text = self._ids.tobytes().hex()
        return [text[start : start + _ID_CHARACTERS] for start in range(0, len(text), _ID_CHARACTERS)]

    def positions(self, sequence_ids: Sequence[str]) -> NDArray[np.int64]:
        """Where each id stands in `sequence_ids`; -1 for one that the cache does not hold."""
        asked, is_id = _as_bytes(sequence_ids)
        low = np.searchsorted(_as_text(self._ids), _as_text(asked), sorter=self._order)
        candidates = self._order[np.minimum(low, len(self._ids) - 1)]
        is_found = is_id & (self._ids[candidates] == asked).all(axis=1)
        return np.where(is_found, candidates, -1)

    def places(self, positions: NDArray[np.int64]) -> Places:
        """Shard and rows at known positions."""
        return Places(self._shard[positions].astype(np.int64), self._starts[positions], self._ends[positions])

    def _refuse_duplicates(self, shards: Sequence[SequencesReader]) -> None:
        ordered = _as_text(self._ids)[self._order]
        second = self._order[1:][ordered[1:] == ordered[:-1]]
        if len(second):
            position = int(second.min())
            path = shards[int(self._shard[position])].path
            raise damaged(path, f"sequence {self._ids[position].tobytes().hex()[:12]} stands in another shard too")


def _as_text(ids: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Each id as one value that sorts by its bytes; all are of one length, so zeros at an end make no two alike."""
    text: NDArray[np.generic] = np.ascontiguousarray(ids).view(f"S{ID_BYTES}")[:, 0]
    return text


def _as_bytes(sequence_ids: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Ids as rows of bytes, and which of them are ids at all."""
    try:
        content = bytes.fromhex("".join(sequence_ids))
        is_id = np.fromiter((len(text) == _ID_CHARACTERS for text in sequence_ids), dtype=bool, count=len(sequence_ids))
        if is_id.all() and len(content) == ID_BYTES * len(sequence_ids):
            return np.frombuffer(content, dtype=np.uint8).reshape(-1, ID_BYTES), is_id
    except ValueError:
        pass
    rows = [_id_bytes(text) for text in sequence_ids]
    is_id = np.array([row is not None for row in rows], dtype=bool)
    content = b"".join(row or bytes(ID_BYTES) for row in rows)
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, ID_BYTES), is_id


def _id_bytes(text: str) -> bytes | None:
    try:
        content = bytes.fromhex(text)
    except ValueError:
        return None
    return content if len(content) == ID_BYTES and len(text) == _ID_CHARACTERS else None
