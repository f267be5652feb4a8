"""The bytes of a finished cache: files mapped when first needed, found by sequence id, copied out as stored."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int
from torch import Tensor

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import CodecName, EncodedRows
from distill.teacher_cache.gathering import gathered_ids, gathered_rows
from distill.teacher_cache.head_file import float_head, read_head
from distill.teacher_cache.manifest import HEAD_NAME, CacheManifest
from distill.teacher_cache.opening import open_sequences, open_tier_shard, require_checksum
from distill.teacher_cache.sequence_index import Places, SequenceIndex
from distill.teacher_cache.shard import SequencesReader, TierReader


class StoredCache:
    """Sequences, rows and head of a cache.

    Args:
        folder: the cache's.
        manifest: its own, consistent.
        checks_checksums: as for `TeacherCache.open`.
    """

    def __init__(self, folder: Path, manifest: CacheManifest, *, checks_checksums: bool) -> None:
        self.folder, self.manifest = folder, manifest
        self.codecs = {tier.codec: manifest.codec_of(tier.settings) for tier in manifest.complete_tiers.values()}
        self._checks_checksums = checks_checksums
        self._shards: dict[tuple[CodecName, int], TierReader] = {}

    @cached_property
    def index(self) -> SequenceIndex:
        """Where each sequence stands; the first look opens the sequences of all shards."""
        return SequenceIndex(self._sequences)

    @cached_property
    def head(self) -> OutputHead:
        """The teacher's output head in its stored dtype."""
        path = self.folder / HEAD_NAME
        head = read_head(path, vocab_size=self.manifest.vocab_size, hidden_size=self.manifest.hidden_size)
        if self._checks_checksums:
            require_checksum(path, self.manifest.head_sha256)
        return head

    @cached_property
    def float_head(self) -> OutputHead:
        """The head widened once."""
        return float_head(self.head)

    def places(self, sequence_ids: Sequence[str]) -> Places:
        """Where sequences stand.

        Raises:
            CacheError: the cache lacks some; says how many, and names the first.
        """
        positions = self.index.positions(sequence_ids)
        missing = np.flatnonzero(positions < 0).tolist()
        if missing:
            absent = list(dict.fromkeys(sequence_ids[position] for position in missing))
            raise CacheError(
                f"{len(absent)} of {len(set(sequence_ids))} sequences are not in teacher cache {self.folder}, "
                f"the first is {absent[0][:12]}",
                why="a sequence is found by its exact tokens; other data, another tokenizer, chat template or "
                "max_length_tokens gives other tokens",
                fix="make the cache again from this data: distill cache RECIPE",
            )
        return self.index.places(positions)

    def completion_ids(self, places: Places) -> Int[Tensor, " tokens"]:
        """Completion tokens at `places`, end to end."""
        return gathered_ids(self._sequences, places)

    def rows(self, codec: CodecName, places: Places) -> EncodedRows:
        """A tier's rows at `places`, end to end."""
        shards = {number: self._shard(codec, number) for number in np.unique(places.shards).tolist()}
        return gathered_rows(shards, places, codec=self.codecs[codec])

    def check_numbers(self, codec: CodecName, places: Places) -> None:
        """Reads all rows of the shards at `places`, to say which of them holds wrong numbers.

        Raises:
            CacheError: one does; names it.
        """
        for number in np.unique(places.shards).tolist():
            self._shard(codec, number).check_numbers()

    @cached_property
    def _sequences(self) -> list[SequencesReader]:
        checked = self._checks_checksums
        numbers = range(self.manifest.num_shards)
        return [open_sequences(self.folder, self.manifest, number, checks_checksum=checked) for number in numbers]

    def _shard(self, codec: CodecName, number: int) -> TierReader:
        reader = self._shards.get((codec, number))
        if reader is None:
            checked = self._checks_checksums
            reader = open_tier_shard(self.folder, self.manifest, self.codecs[codec], number, checks_checksum=checked)
            self._shards[codec, number] = reader
        return reader
