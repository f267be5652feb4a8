"""The caching worker: claims a shard, scores it for every tier that misses it, commits it; goes on to the next."""

import logging
import os
import platform
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from distill.data import TokenizedSequence
from distill.models import LoadedModel
from distill.progress import Tracker, tracked
from distill.teacher_cache.claims import Claim, Claims
from distill.teacher_cache.codecs import Codec
from distill.teacher_cache.committing import ShardInWork
from distill.teacher_cache.disk import room_for
from distill.teacher_cache.job import Job, begin_cache, claim_name, finish
from distill.teacher_cache.manifest import CLAIMS_NAME
from distill.teacher_cache.memory import MemoryGuard
from distill.teacher_cache.plan import PlannedShard
from distill.teacher_cache.reader import TeacherCache
from distill.teacher_cache.scoring import Scorer, scorer_of
from distill.teacher_cache.settings import CacheSettings
from distill.teacher_cache.write_behind import WriteBehind

__all__ = ["CacheSettings", "Job", "begin_cache", "finish", "score_sequences", "work"]

log = logging.getLogger(__name__)

LONGEST_POLL_S = 1.0
NEWS_INTERVAL_S = 30.0


def score_sequences(
    loaded: LoadedModel | Scorer,
    sequences: Iterable[TokenizedSequence],
    *,
    settings: CacheSettings,
    output_dir: Path,
    data_fingerprint: str,
) -> TeacherCache:
    """Scores each distinct sequence once and returns the finished cache; any number of processes may do so together.

    Run again in the same folder, it keeps every shard whose checksum stands and scores the others; tiers that the
    cache lacks are added. A worker that is killed loses at most the shard it was at. Resumed or not, by one worker
    or by many, the shards hold the same bytes.

    Args:
        loaded: the teacher, or the reference policy.
        sequences: prompts with completions; duplicates count once.
        settings: tiers and sizes.
        output_dir: the cache's folder.
        data_fingerprint: of what the sequences were tokenized from.

    Raises:
        CacheError: the folder holds another cache, a sequence cannot be scored, or the disk has no room.
    """
    scorer = scorer_of(loaded)
    job = begin_cache(scorer, sequences, settings=settings, output_dir=output_dir, data_fingerprint=data_fingerprint)
    work(job, scorer)
    while not finish(job):
        work(job, scorer)
    return TeacherCache.open(output_dir)


def work(job: Job, loaded: LoadedModel | Scorer, *, worker_id: str | None = None) -> int:
    """Scores shards until every one of the job stands, its own and those of workers that died.

    Returns:
        Completion tokens that this worker scored and committed.

    Raises:
        CacheError: a sequence cannot be scored, or the disk has no room; what was committed is intact.
    """
    scorer = scorer_of(loaded)
    pending = [shard for shard in job.plan.shards if job.missing(shard)]
    num_kept = len(job.plan.shards) - len(pending)
    if num_kept:
        log.info("%s: %d of %d shards stood already", job.folder, num_kept, len(job.plan.shards))
    if not pending:
        return 0
    name = worker_id or f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    claims = Claims(job.folder / CLAIMS_NAME, worker_id=name, lease_s=job.settings.lease_s)
    total = sum(shard.num_tokens for shard in pending)
    label = f"{job.folder.name} cache, tokens"
    with claims, WriteBehind() as behind, tracked(label, total) as tracker:
        worker = _Worker(job, MemoryGuard(scorer), claims, behind, tracker, total)
        worker.shares_prompts = scorer.shares_prompts(longest=job.plan.longest)
        while pending:
            pending = worker.visit(pending)
        return worker.committed_tokens


@dataclass
class _Worker:
    """What `work` needs from shard to shard."""

    job: Job
    guard: MemoryGuard
    claims: Claims
    behind: WriteBehind
    tracker: Tracker
    left_tokens: int
    shares_prompts: bool = True
    scored_tokens: int = 0
    committed_tokens: int = 0
    num_bytes: int = 0
    counted: Counter[int] = field(default_factory=Counter)
    started: float = field(default_factory=time.monotonic)
    last_news: float = field(default_factory=time.monotonic)

    def visit(self, pending: Sequence[PlannedShard]) -> list[PlannedShard]:
        """Scores what it can claim; the shards that are still in other hands come back."""
        others: list[PlannedShard] = []
        has_scored = False
        for shard in pending:
            missing = self.job.missing(shard)
            held = self._claimed(shard, missing)
            try:
                has_scored = self._scored(shard, held) or has_scored
            finally:
                for claim in held.values():
                    self.claims.release(claim)
            if missing and self.job.missing(shard):
                others.append(shard)
            else:
                self._count(shard, shard.num_tokens)
        if others and not has_scored:
            self._wait(others)
        return others

    def _claimed(self, shard: PlannedShard, missing: Sequence[Codec]) -> dict[Codec, Claim]:
        """Claims on the missing tiers; none where the first is in other hands: its owner is at the whole shard."""
        held: dict[Codec, Claim] = {}
        for codec in missing:
            with room_for(self.claims.folder, needed_bytes=100, left_bytes=self.job.size_bytes(self.left_tokens)):
                claim = self.claims.take(claim_name(codec, shard))
            if claim is not None:
                held[codec] = claim
            elif not held:
                break
        return held

    def _scored(self, shard: PlannedShard, held: dict[Codec, Claim]) -> bool:
        """Scores the claimed tiers of a shard; False where there are none that were not committed meanwhile."""
        still = {codec: claim for codec, claim in held.items() if self.job.record(codec, shard) is None}
        if not still:
            return False
        writing = ShardInWork(self.job, shard, still, left_tokens=self.left_tokens)
        try:
            for batch in shard.batches(self.job.settings.max_batch_tokens, shares_prompts=self.shares_prompts):
                rows = self.guard.score(batch, tuple(still))
                self.num_bytes += sum(part.size_bytes for part in rows)
                self.behind.put(partial(writing.append, rows))
                self.scored_tokens += batch.num_tokens
                self._count(shard, batch.num_tokens)
            self.behind.put(writing.commit)
            # A crash loses one shard at most: the next one begins when this one is committed.
            self.behind.wait()
        finally:
            self.behind.settle()
            writing.discard()
        self.committed_tokens += shard.num_tokens if writing.is_committed else 0
        return True

    def _count(self, shard: PlannedShard, num_tokens: int) -> None:
        """Progress by so many of a shard's tokens; each counts once, however often the shard has to be scored."""
        num_tokens = min(num_tokens, shard.num_tokens - self.counted[shard.number])
        self.counted[shard.number] += num_tokens
        self.left_tokens -= num_tokens
        elapsed_s = max(time.monotonic() - self.started, 1e-9)
        figures = {"tokens/s": self.scored_tokens / elapsed_s, "MB": self.num_bytes / 1e6}
        self.tracker.advance(num_tokens, figures=figures)

    def _wait(self, others: Sequence[PlannedShard]) -> None:
        """Lets time pass while all that is left is in the hands of others."""
        now = time.monotonic()
        if now - self.last_news >= NEWS_INTERVAL_S:
            self.last_news = now
            log.info("%s: waiting for %d shards of other workers", self.job.folder, len(others))
        time.sleep(min(LONGEST_POLL_S, self.job.settings.lease_s / 8))
