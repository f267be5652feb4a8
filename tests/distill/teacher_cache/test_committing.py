import os

import pytest

from distill.teacher_cache.claims import Claims
from distill.teacher_cache.committing import ShardInWork
from distill.teacher_cache.job import begin_cache
from distill.teacher_cache.scoring import LocalScorer


@pytest.fixture
def job(teacher, sequences, small_shards, tmp_path):
    return begin_cache(teacher, sequences, settings=small_shards(), output_dir=tmp_path / "c", data_fingerprint="data")


def rows_of(job, teacher, shard):
    scorer = LocalScorer(teacher)
    shares_prompts = scorer.shares_prompts(longest=16)
    (batch,) = shard.batches(10_000, shares_prompts=shares_prompts)
    return scorer.score(batch, job.codecs)


def test_a_commit_puts_file_and_record_in_place(job, teacher, tmp_path):
    (codec,), shard = job.codecs, job.plan.shards[0]
    with Claims(tmp_path / "claims", worker_id="one", lease_s=60) as claims:
        held = {codec: claims.take("exact-00000")}
        writing = ShardInWork(job, shard, held, left_tokens=1)
        writing.append(rows_of(job, teacher, shard))
        assert job.record(codec, shard) is None
        writing.commit()
    assert writing.is_committed
    record = job.record(codec, shard)
    assert (record.num_tokens, record.num_sequences) == (shard.num_tokens, len(shard.sequences))
    assert (job.folder / "exact" / shard.name).stat().st_size == record.size_bytes


def test_a_claim_that_was_lost_commits_nothing(job, teacher, tmp_path, caplog):
    (codec,), shard = job.codecs, job.plan.shards[0]
    with (
        Claims(tmp_path / "claims", worker_id="one", lease_s=60) as one,
        Claims(tmp_path / "claims", worker_id="two", lease_s=60) as two,
    ):
        claim = one.take("exact-00000")
        writing = ShardInWork(job, shard, {codec: claim}, left_tokens=1)
        writing.append(rows_of(job, teacher, shard))
        os.utime(claim.path, (0, 0))
        assert two.take("exact-00000") is not None
        writing.commit()
    assert not writing.is_committed
    assert "taken over by another worker and is left to it" in caplog.text
    assert job.record(codec, shard) is None
    assert list((job.folder / "exact").iterdir()) == []


def test_what_a_dead_worker_left_half_written_is_removed(job, teacher, tmp_path):
    (codec,), shard = job.codecs, job.plan.shards[0]
    leftover = job.folder / "exact" / f".{shard.name}.0123abcd.partial"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    with Claims(tmp_path / "claims", worker_id="one", lease_s=60) as claims:
        writing = ShardInWork(job, shard, {codec: claims.take("exact-00000")}, left_tokens=1)
        writing.append(rows_of(job, teacher, shard))
        writing.discard()
    assert list(leftover.parent.iterdir()) == []


def test_one_that_lost_its_claim_leaves_the_new_owners_file_alone(job, teacher, tmp_path):
    """It was suspended before its first batch; its file is opened when another is at the shard already."""
    (codec,), shard = job.codecs, job.plan.shards[0]
    rows = rows_of(job, teacher, shard)
    with (
        Claims(tmp_path / "claims", worker_id="one", lease_s=60) as one,
        Claims(tmp_path / "claims", worker_id="two", lease_s=60) as two,
    ):
        late = ShardInWork(job, shard, {codec: one.take("exact-00000")}, left_tokens=1)
        os.utime(tmp_path / "claims" / "exact-00000.json", (0, 0))
        owner = ShardInWork(job, shard, {codec: two.take("exact-00000")}, left_tokens=1)
        owner.append(rows)
        late.append(rows)
        owner.commit()
        late.commit()
    assert (owner.is_committed, late.is_committed) == (True, False)
    assert job.record(codec, shard) is not None


def test_a_file_that_its_successor_cleared_away_is_left_to_it(job, teacher, tmp_path, caplog):
    """The claim is lost between the last look at it and the commit, and the file with it."""
    (codec,), shard = job.codecs, job.plan.shards[0]
    with Claims(tmp_path / "claims", worker_id="one", lease_s=60) as claims:
        writing = ShardInWork(job, shard, {codec: claims.take("exact-00000")}, left_tokens=1)
        writing.append(rows_of(job, teacher, shard))
        (partial,) = (job.folder / "exact").iterdir()
        partial.unlink()
        writing.commit()
    assert not writing.is_committed
    assert "is left to it" in caplog.text
    assert job.record(codec, shard) is None
