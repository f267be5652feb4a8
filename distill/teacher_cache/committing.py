"""The files of a shard while it is scored: rows behind each batch, then file and record of each tier in place."""

import logging
import os
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from distill.teacher_cache.claims import Claim
from distill.teacher_cache.codecs import Codec, EncodedRows
from distill.teacher_cache.disk import room_for
from distill.teacher_cache.job import Job, claim_name, library_versions
from distill.teacher_cache.manifest import ShardRecord, tier_path
from distill.teacher_cache.plan import PlannedShard
from distill.teacher_cache.shard_records import Writing, write_shard_record
from distill.teacher_cache.shard_writer import TierShardWriter

log = logging.getLogger(__name__)


class ShardInWork:
    """The files of one shard, one a claimed tier; all but the constructor runs in the writing thread.

    After `commit`, `is_committed` tells whether every tier was this worker's to the end.
    """

    def __init__(self, job: Job, shard: PlannedShard, held: Mapping[Codec, Claim], *, left_tokens: int) -> None:
        self._job, self._shard, self._held = job, shard, held
        self._left_bytes = job.size_bytes(left_tokens)
        self._started = time.monotonic()
        self._writers: dict[Codec, TierShardWriter] = {}
        self.is_committed = True
        self._sequences_sha256 = job.manifest.sequences[shard.number].sha256

    def append(self, rows: Sequence[EncodedRows]) -> None:
        """The next batch's rows, tier after tier."""
        for codec, part in zip(self._held, rows, strict=True):
            with self._room(codec):
                if codec not in self._writers:
                    self._writers[codec] = self._opened(codec)
                self._writers[codec].append(part)

    def commit(self) -> None:
        """Puts each tier's file and then its record in place; a claim that was lost meanwhile is left to its owner."""
        for codec, claim in self._held.items():
            try:
                if not claim.is_lost:
                    self._commit_tier(codec)
                    continue
            except FileNotFoundError:  # lost at this very moment: who took over has cleared this worker's file away
                pass
            log.warning("%s was taken over by another worker and is left to it", claim_name(codec, self._shard))
            self.is_committed = False
            self._writers[codec].discard()

    def _commit_tier(self, codec: Codec) -> None:
        with self._room(codec):
            written = self._writers[codec].commit()
            record = ShardRecord(
                name=self._shard.name,
                sha256=written.sha256,
                size_bytes=written.size_bytes,
                num_sequences=len(self._shard.sequences),
                num_tokens=self._shard.num_tokens,
                sequences_sha256=self._sequences_sha256,
            )
            write_shard_record(
                self._job.folder, codec.settings, self._shard.number, record=record, writing=self._writing()
            )

    def discard(self) -> None:
        """Removes what was not committed."""
        for writer in self._writers.values():
            writer.discard()

    def _opened(self, codec: Codec) -> TierShardWriter:
        path = tier_path(self._job.folder, codec.settings.codec, self._shard.number)
        if not self._held[codec].is_lost:
            for leftover in path.parent.glob(f".{path.name}.*.partial"):
                leftover.unlink(missing_ok=True)  # of a worker that died: only who holds the claim writes here
        return TierShardWriter(
            path, codec=codec, sequences_sha256=self._sequences_sha256, num_tokens=self._shard.num_tokens
        )

    def _writing(self) -> Writing:
        elapsed_s = time.monotonic() - self._started
        return Writing(
            host=platform.node(),
            process_id=os.getpid(),
            elapsed_s=elapsed_s,
            tokens_per_s=self._shard.num_tokens / max(elapsed_s, 1e-9),
            versions=library_versions(),
        )

    def _room(self, codec: Codec) -> AbstractContextManager[None]:
        path = tier_path(self._job.folder, codec.settings.codec, self._shard.number)
        needed = round(codec.bytes_per_token() * self._shard.num_tokens)
        return room_for(path, needed_bytes=needed, left_bytes=self._left_bytes)
