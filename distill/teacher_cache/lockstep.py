"""A teacher cut over the ranks of a launcher: every pass needs all of them, so they score one batch together.

Rank 0 is a worker like any other: it claims, encodes and writes. The other ranks follow: they are told what to do,
do their share of the batch, and hand their rows back. A rank that fails ends its process, and the launcher the job.
"""

import datetime
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import torch.distributed

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.models.world import World, process_group
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import Codec, EncodedRows, joined
from distill.teacher_cache.memory import is_out_of_memory
from distill.teacher_cache.plan import PlannedBatch
from distill.teacher_cache.reader import TeacherCache
from distill.teacher_cache.scoring import LocalScorer, Scorer, TeacherIdentity
from distill.teacher_cache.settings import CacheSettings
from distill.teacher_cache.teacher_source import TeacherSource
from distill.teacher_cache.worker import score_sequences

log = logging.getLogger(__name__)

# Followers wait as long as rank 0 writes, or waits for the shards of other jobs.
PATIENCE = datetime.timedelta(days=7)


@dataclass(frozen=True)
class _Order:
    """What rank 0 asks all ranks to do."""

    kind: Literal["shares_prompts", "score", "stop"]
    longest: int = 0
    batch: PlannedBatch | None = None
    codecs: tuple[Codec, ...] = ()


class LockstepScorer:
    """The scorer of rank 0: each call is a call on every rank."""

    def __init__(self, own: Scorer, world: World, group: Any) -> None:
        self._own, self._world, self._group = own, world, group

    @property
    def identity(self) -> TeacherIdentity:
        """The teacher's, the same on every rank."""
        return self._own.identity

    @property
    def head(self) -> OutputHead | None:
        """Whole on every rank."""
        return self._own.head

    def shares_prompts(self, *, longest: int) -> bool:
        """What all ranks find, each with the same probe."""
        self._ordered(_Order("shares_prompts", longest=longest))
        return self._own.shares_prompts(longest=longest)

    def score(self, batch: PlannedBatch, codecs: Sequence[Codec]) -> list[EncodedRows]:
        """The batch's rows: every rank scores the groups that fall to it.

        Raises:
            CacheError: a rank's number is not finite, or its memory ran out.
        """
        self._ordered(_Order("score", batch=batch, codecs=tuple(codecs)))
        own = _share_scored(self._own, batch, codecs, self._world)
        gathered: list[Any] = [None] * self._world.world_size
        torch.distributed.gather_object(own, gathered, group=self._group)
        shares = [rows for rows in gathered if rows is not None]
        return [joined(parts) for parts in zip(*shares, strict=True)]

    def stop(self) -> None:
        """Lets the other ranks go."""
        self._ordered(_Order("stop"))

    def _ordered(self, order: _Order) -> None:
        torch.distributed.broadcast_object_list([order], src=0, group=self._group)


def follow(own: Scorer, world: World, group: Any) -> None:
    """Does what rank 0 orders until it says stop."""
    while True:
        held: list[Any] = [None]
        torch.distributed.broadcast_object_list(held, src=0, group=group)
        order: _Order = held[0]
        if order.kind == "stop":
            return
        if order.kind == "shares_prompts":
            own.shares_prompts(longest=order.longest)
            continue
        assert order.batch is not None
        torch.distributed.gather_object(_share_scored(own, order.batch, order.codecs, world), group=group)


def score_in_lockstep(
    source: TeacherSource,
    sequences: Sequence[TokenizedSequence],
    *,
    settings: CacheSettings,
    output_dir: Path,
    data_fingerprint: str,
) -> TeacherCache:
    """Fills a cache with a model that all ranks hold together; every rank calls this. A world of one works too.

    Raises:
        CacheError: as `score_sequences`, or a rank's memory ran out.
    """
    with process_group() as world:
        own = LocalScorer(source.load(worker=world.local_rank))
        # Orders and rows travel between processors; the model's own collectives stay on its devices.
        group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
        if world.is_main:
            scorer = LockstepScorer(own, world, group)
            score_sequences(
                scorer, sequences, settings=settings, output_dir=output_dir, data_fingerprint=data_fingerprint
            )
            scorer.stop()
        else:
            follow(own, world, group)
    return TeacherCache.open(output_dir)


def shares(batch: PlannedBatch, num_ranks: int) -> list[PlannedBatch | None]:
    """The groups of a batch for each rank, in order and about equally long; None where a rank has nothing to do."""
    cuts = [0] * (num_ranks + 1)
    ends = list(accumulate(group.num_positions for group in batch.groups))
    for rank in range(1, num_ranks + 1):
        target = ends[-1] * rank / num_ranks
        cuts[rank] = max(cuts[rank - 1], sum(end <= target for end in ends))
    cuts[num_ranks] = len(ends)
    parts = [batch.groups[start:stop] for start, stop in pairwise(cuts)]
    return [PlannedBatch(part, batch.row_tokens) if part else None for part in parts]


def _share_scored(own: Scorer, batch: PlannedBatch, codecs: Sequence[Codec], world: World) -> list[EncodedRows] | None:
    """This rank's rows; without a share of its own a rank goes through the shortest group, for the others' sake."""
    share = shares(batch, world.world_size)[world.rank]
    passed = share or PlannedBatch(batch.groups[-1:], batch.groups[-1].num_positions)
    try:
        rows = own.score(passed, codecs)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # The other ranks wait inside a layer: nothing can be tried again, so this must not look like memory's end.
        raise CacheError(
            f"rank {world.rank} ran out of memory with {passed.num_positions} positions",
            why=f"the model is cut over {world.world_size} ranks, and one cannot try again while the others wait",
            fix="lower cache.max_batch_tokens, start more ranks, or teacher.placement=zero-3-offload",
        ) from error
    return rows if share is not None else None
