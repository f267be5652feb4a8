import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from distill.errors import CacheError
from distill.models.world import World
from distill.teacher_cache import EncodedRows, HeadShape, TeacherCache, TierSettings, make_codec
from distill.teacher_cache.codecs import Codec
from distill.teacher_cache.lockstep import _share_scored, shares
from distill.teacher_cache.plan import PlannedBatch, plan_shards
from tests.distill.teacher_cache import clusters
from tests.distill.teacher_cache.clusters import filled, job_environment, saved_teacher, some_sequences

CODECS = (make_codec(TierSettings(codec="scores"), HeadShape(280, 32)),)


def batch(num_prompts: int) -> PlannedBatch:
    """All groups of a few prompts."""
    plan = plan_shards(some_sequences(num_prompts), shard_tokens=10_000, max_length_tokens=64, vocab_size=280)
    return plan.shards[0].batches(10_000)[0]


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("num_prompts", [1, 2, 7])
def test_the_shares_of_all_ranks_are_the_batch_in_order(num_ranks: int, num_prompts: int):
    whole = batch(num_prompts)
    found = shares(whole, num_ranks)
    assert len(found) == num_ranks
    assert tuple(group for share in found if share is not None for group in share.groups) == whole.groups
    if num_prompts >= 2 * num_ranks:
        assert None not in found


class Counting:
    """A scorer that says which tokens it was asked for, or that memory ran out."""

    def __init__(self, *, fails: bool = False) -> None:
        self.batches: list[PlannedBatch] = []
        self.fails = fails

    def score(self, batch: PlannedBatch, codecs: Sequence[Codec]) -> list[EncodedRows]:
        self.batches.append(batch)
        if self.fails:
            raise RuntimeError("CUDA error: out of memory")
        return [EncodedRows(torch.zeros(batch.num_tokens, 4, dtype=torch.uint8)) for _ in codecs]


def test_a_rank_without_a_share_takes_part_in_the_pass_all_the_same():
    own, whole = Counting(), batch(1)
    rows = [_share_scored(own, whole, CODECS, World(rank, 3, rank)) for rank in range(3)]  # type: ignore[arg-type]
    assert sum(part is not None for part in rows) == 1
    assert len(own.batches) == 3
    assert all(scored.groups == whole.groups for scored in own.batches)


def test_a_rank_whose_memory_ran_out_says_so_and_tries_nothing_again():
    with pytest.raises(CacheError, match=r"rank 1 ran out of memory .*\nwhy: .*2 ranks.*\nfix: lower cache"):
        _share_scored(Counting(fails=True), batch(4), CODECS, World(1, 2, 1))  # type: ignore[arg-type]


@pytest.mark.slow
def test_two_ranks_that_hold_half_the_teacher_each_fill_the_cache_of_the_whole_one(tmp_path: Path):
    source = saved_teacher(tmp_path / "model")
    job = {"model": source.model, "folder": str(tmp_path / "cut"), "placement": "zero-3"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = subprocess.run(
        [*launcher, clusters.__file__, json.dumps(job)],
        env=job_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    cut, whole = TeacherCache.open(tmp_path / "cut"), filled(source, tmp_path / "whole")
    ids = whole.sequence_ids
    assert cut.sequence_ids == ids
    assert cut.manifest.head_sha256 == whole.manifest.head_sha256
    torch.testing.assert_close(cut.token_log_probs(ids), whole.token_log_probs(ids), rtol=0, atol=1e-5)
    torch.testing.assert_close(cut.hidden_states(ids), whole.hidden_states(ids), rtol=2**-7, atol=1e-5)
