import copy
import errno
import logging
import os
import resource
import signal
import threading
from pathlib import Path

import pytest
import torch

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.models import LoadedModel
from distill.teacher_cache import TeacherCache, score_sequences, verify
from distill.teacher_cache.claims import Claims
from distill.teacher_cache.manifest import read_manifest
from distill.teacher_cache.worker import begin_cache, finish, work


def score(teacher, sequences, settings, folder: Path, *, data_fingerprint: str = "data") -> TeacherCache:
    return score_sequences(teacher, sequences, settings=settings, output_dir=folder, data_fingerprint=data_fingerprint)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}


def finished(folder: Path, codec: str = "exact") -> set[str]:
    return {path.stem for path in (folder / codec).glob("*.json")}


def stopping_after(teacher: LoadedModel, num_forwards: int, stop) -> LoadedModel:
    """The teacher with a hook that calls `stop` before one batch too many; probes come before any shard."""
    model = copy.deepcopy(teacher.model)
    calls = [0]

    def count(module, args, kwargs) -> None:
        calls[0] += bool(threading.current_thread() is threading.main_thread()) and stop.is_armed()
        if calls[0] > num_forwards:
            stop()

    model.model.register_forward_pre_hook(count, with_kwargs=True)
    return LoadedModel(model, teacher.tokenizer, teacher.source, teacher.fingerprint)


class Stop:
    """What ends a worker, once a shard of its cache is claimed."""

    def __init__(self, folder: Path, action) -> None:
        self.folder, self.action = folder, action

    def is_armed(self) -> bool:
        return any((self.folder / "claims").glob("*.json"))

    def __call__(self) -> None:
        self.action()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_cache_holds_every_sequence_and_is_sound(teacher, sequences, small_shards, tmp_path):
    cache = score(teacher, sequences, small_shards(), tmp_path / "c")
    assert sorted(cache.sequence_ids) == sorted(row.sequence_id for row in sequences)
    assert cache.manifest.num_shards > 2
    assert cache.manifest.num_tokens == sum(len(row.completion_ids) for row in sequences)
    assert verify(tmp_path / "c")["is_complete"]
    assert list((tmp_path / "c" / "claims").iterdir()) == []


def test_a_second_run_scores_nothing(teacher, sequences, small_shards, tmp_path):
    score(teacher, sequences, small_shards(), tmp_path / "c")
    before = bytes_of(tmp_path / "c")
    score(stopping_after(teacher, 0, Stop(tmp_path / "c", interrupt)), sequences, small_shards(), tmp_path / "c")
    assert bytes_of(tmp_path / "c") == before


@pytest.mark.parametrize("codec", ["scores", "exact", "sampled", ["scores", "top-k"]])
def test_an_interrupted_run_goes_on_to_the_same_bytes(teacher, sequences, small_shards, tmp_path, codec):
    settings = small_shards(codec=codec)
    with pytest.raises(KeyboardInterrupt):
        score(stopping_after(teacher, 3, Stop(tmp_path / "c", interrupt)), sequences, settings, tmp_path / "c")
    first = settings.tiers[0].codec
    assert 0 < len(finished(tmp_path / "c", first)) < read_manifest(tmp_path / "c").num_shards
    assert not list((tmp_path / "c").rglob("*.partial"))
    with pytest.raises(CacheError):
        TeacherCache.open(tmp_path / "c")
    score(teacher, sequences, settings, tmp_path / "c")
    score(teacher, sequences, settings, tmp_path / "whole")
    assert bytes_of(tmp_path / "c") == bytes_of(tmp_path / "whole")


def test_a_killed_run_loses_at_most_the_shard_it_was_at(teacher, sequences, small_shards, tmp_path):
    """The child dies in its fourth pass; every shard whose passes were done stands, and no more."""
    settings = small_shards(lease_s=0.2)
    job = begin_cache(teacher, sequences, settings=settings, output_dir=tmp_path / "c", data_fingerprint="data")
    ends = [len(shard.batches(settings.max_batch_tokens)) for shard in job.plan.shards]
    done = {f"{number:05d}" for number in range(len(ends)) if sum(ends[: number + 1]) <= 3}
    child = os.fork()
    if not child:
        stop = Stop(tmp_path / "c", lambda: os.kill(os.getpid(), signal.SIGKILL))
        score(stopping_after(teacher, 3, stop), sequences, settings, tmp_path / "c")
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert finished(tmp_path / "c") == done != set()
    score(teacher, sequences, settings, tmp_path / "c")
    score(teacher, sequences, settings, tmp_path / "whole")
    assert bytes_of(tmp_path / "c") == bytes_of(tmp_path / "whole")


def test_a_tier_is_added_to_what_stands(teacher, sequences, small_shards, tmp_path):
    score(teacher, sequences, small_shards(codec="scores"), tmp_path / "c")
    before = bytes_of(tmp_path / "c")
    cache = score(teacher, sequences, small_shards(codec=["scores", "exact"]), tmp_path / "c")
    assert cache.tiers == ("scores", "exact")
    after = bytes_of(tmp_path / "c")
    assert {name: after[name] for name in before} == before
    score(teacher, sequences, small_shards(codec=["scores", "exact"]), tmp_path / "whole")
    assert after == bytes_of(tmp_path / "whole")


def test_tiers_that_are_not_asked_for_any_more_stay(teacher, sequences, small_shards, tmp_path):
    score(teacher, sequences, small_shards(codec=["scores", "exact"]), tmp_path / "c")
    assert score(teacher, sequences, small_shards(codec="exact"), tmp_path / "c").tiers == ("scores", "exact")


def test_a_shard_in_other_hands_is_left_alone_and_waited_for(teacher, sequences, small_shards, tmp_path):
    """Another worker holds shard 0 and never says a word: it is scored by this one after its lease."""
    settings = small_shards(lease_s=0.3)
    job = begin_cache(teacher, sequences, settings=settings, output_dir=tmp_path / "c", data_fingerprint="data")
    silent = tmp_path / "c" / "claims" / "exact-00000.json"
    silent.parent.mkdir()
    silent.write_text('{"worker": "silent"}')
    order: list[str] = []
    record = Claims.take

    def noted(self, name):
        claim = record(self, name)
        order.extend([name] if claim else [])
        return claim

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Claims, "take", noted)
        scored = work(job, teacher)
    assert scored == job.plan.num_tokens
    assert order[-1] == "exact-00000"
    assert finish(job)


def test_two_workers_share_the_shards_and_neither_scores_one_twice(teacher, sequences, small_shards, tmp_path):
    jobs = [
        begin_cache(teacher, sequences, settings=small_shards(), output_dir=tmp_path / "c", data_fingerprint="data")
        for _ in range(2)
    ]
    scored: list[int] = []
    threads = [
        threading.Thread(target=lambda job=job: scored.append(work(job, copy.deepcopy(teacher)))) for job in jobs
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(scored) == jobs[0].plan.num_tokens
    assert finish(jobs[0])
    score(teacher, sequences, small_shards(), tmp_path / "whole")
    assert bytes_of(tmp_path / "c") == bytes_of(tmp_path / "whole")


def test_out_of_memory_goes_on_with_smaller_batches(teacher, sequences, small_shards, tmp_path, caplog):
    model = copy.deepcopy(teacher.model)

    def refuse(module, args, kwargs) -> None:
        if kwargs["input_ids"].numel() > 14 and any((tmp_path / "c" / "claims").glob("*.json")):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    settings = small_shards(codec={"codec": "exact", "hidden_dtype": "float32"})
    tight = LoadedModel(model, teacher.tokenizer, teacher.source, teacher.fingerprint)
    job = begin_cache(tight, sequences, settings=settings, output_dir=tmp_path / "c", data_fingerprint="data")
    model.model.register_forward_pre_hook(refuse, with_kwargs=True)
    assert max(batch.num_positions for shard in job.plan.shards for batch in shard.batches(24)) > 14
    with caplog.at_level(logging.WARNING):
        work(job, tight)
    assert finish(job)
    assert "out of memory with" in caplog.text
    cache, whole = TeacherCache.open(tmp_path / "c"), score(teacher, sequences, settings, tmp_path / "whole")
    ids = whole.sequence_ids
    torch.testing.assert_close(cache.hidden_states(ids), whole.hidden_states(ids), rtol=1e-5, atol=1e-5)


def test_a_disk_that_refuses_a_shard_leaves_the_earlier_ones_intact(teacher, sequences, small_shards, tmp_path):
    """A limit on file sizes stands in for a full disk: 2000 tokens take 8000 bytes, which the kernel refuses."""
    long = TokenizedSequence((5,), (6,) * 2000)
    settings = small_shards(codec="scores", shard_tokens=1, max_length_tokens=2001)
    rows = [*sequences[:2], long, sequences[2]]
    teacher.model.config.max_position_embeddings = 2048
    begin_cache(teacher, rows, settings=settings, output_dir=tmp_path / "c", data_fingerprint="data")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7000, hard))
    try:
        with pytest.raises(CacheError, match=rf"no room for .*00002.*{os.strerror(errno.EFBIG)}") as caught:
            score(teacher, rows, settings, tmp_path / "c")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "this file takes 8.00 kB" in caught.value.why
    left = sorted(path.name for path in (tmp_path / "c" / "scores").iterdir())
    assert left == ["00000.json", "00000.safetensors", "00001.json", "00001.safetensors"]
    assert list((tmp_path / "c" / "claims").iterdir()) == []
    score(teacher, rows, settings, tmp_path / "c")
    assert verify(tmp_path / "c")["num_shards"] == 4


def test_progress_says_tokens_a_second_and_bytes_written(teacher, sequences, small_shards, tmp_path, caplog):
    with caplog.at_level(logging.INFO), pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.progress.PLAIN_INTERVAL_S", 0.0)
        score(teacher, sequences, small_shards(), tmp_path / "c")
    assert "s left tokens/s" in caplog.text
    assert "MB" in caplog.text


def test_no_thread_of_a_worker_outlives_it(teacher, sequences, small_shards, tmp_path):
    before = set(threading.enumerate())
    score(teacher, sequences[:3], small_shards(), tmp_path / "c")
    assert set(threading.enumerate()) == before


def test_a_shard_that_was_lost_to_another_worker_is_not_counted_as_committed(
    teacher, sequences, small_shards, tmp_path
):
    """While this worker is at its first shard another takes its claim, and lets go of it: the shard is scored anew."""
    folder = tmp_path / "c"
    robbed: list[str] = []

    def rob() -> None:
        if not robbed:
            (claim,) = (folder / "claims").glob("*.json")
            robbed.append(claim.name)
            claim.unlink()

    job = begin_cache(teacher, sequences, settings=small_shards(), output_dir=folder, data_fingerprint="data")
    assert work(job, stopping_after(teacher, 0, Stop(folder, rob))) == job.plan.num_tokens
    assert robbed
    assert finish(job)
    assert verify(folder)["is_complete"]
