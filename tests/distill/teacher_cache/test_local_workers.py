import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from distill.errors import CacheError, ModelError
from distill.teacher_cache import verify
from distill.teacher_cache.claim_owner import ClaimOwner, owner_of
from distill.teacher_cache.local_workers import threads_of_worker, useful_workers
from distill.teacher_cache.teacher_source import TeacherSource
from tests.distill.teacher_cache import clusters
from tests.distill.teacher_cache.clusters import (
    filled,
    job_environment,
    saved_teacher,
    shard_bytes,
    some_sequences,
    some_settings,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TeacherSource:
    return saved_teacher(tmp_path_factory.mktemp("workers") / "model")


@pytest.mark.slow
def test_two_workers_write_what_one_writes(source: TeacherSource, tmp_path: Path):
    filled(source, tmp_path / "one")
    cache = filled(source, tmp_path / "two", workers=2)
    assert set(cache.tiers) == {"scores", "exact"}
    assert shard_bytes(tmp_path / "two") == shard_bytes(tmp_path / "one")
    verify(tmp_path / "two")


@pytest.mark.slow
def test_a_killed_worker_is_started_again(source: TeacherSource, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """The worker dies while it loads its model, or later; either way the cache completes."""
    stop = threading.Event()
    killer = threading.Thread(target=_kill_one_child, args=(stop,))
    killer.start()
    try:
        filled(source, tmp_path / "cache", workers=2)
    finally:
        stop.set()
        killer.join()
    assert "died (SIGKILL); starting it again" in caplog.text
    verify(tmp_path / "cache")


def _kill_one_child(stop: threading.Event) -> None:
    """Ends the first worker process that can be seen; the resource tracker's process is none."""
    me = Path(f"/proc/{os.getpid()}/task")
    while not stop.is_set():
        for children in me.glob("*/children"):
            for child in children.read_text().split():
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
                    return
        time.sleep(0.02)


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(source: TeacherSource, tmp_path: Path):
    """It is killed while its workers are at the cache, and cannot end them itself."""
    job = {"model": source.model, "folder": str(tmp_path / "cache"), "num_prompts": 2_000, "workers": 2}
    parent = subprocess.Popen([sys.executable, clusters.__file__, json.dumps(job)], env=job_environment())
    claims = tmp_path / "cache" / "claims"
    owners: dict[int | None, ClaimOwner] = {}
    while len(owners) < 2:
        assert parent.poll() is None
        owners |= {owner.process_id: owner for owner in map(_owner, claims.glob("*.json")) if owner}
        time.sleep(0.05)
    assert parent.pid not in owners
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 120
    while not all(owner.has_died for owner in owners.values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(owner.has_died for owner in owners.values())
    # A claim made at the very moment of the kill may name nobody yet; none names one who lives.
    left = [owner for owner in map(_owner, claims.glob("*.json")) if owner is not None]
    assert all(owner.has_died for owner in left)


def _owner(path: Path) -> ClaimOwner | None:
    with contextlib.suppress(FileNotFoundError):
        return owner_of(path.read_bytes())
    return None


@pytest.mark.slow
def test_what_a_worker_refuses_ends_all(source: TeacherSource, tmp_path: Path):
    with pytest.raises(ModelError, match="does not exist|neither a folder") as refused:
        filled(TeacherSource(str(tmp_path / "nowhere")), tmp_path / "cache", workers=2)
    assert "in worker" in refused.value.__notes__[0]
    filled(source, tmp_path / "cache", codec="scores")
    with pytest.raises(CacheError, match=r"max_length_tokens is 32, but 33 is asked for"):
        filled(source, tmp_path / "cache", codec="scores", workers=2, max_length_tokens=33)


def test_no_more_workers_are_started_than_there_can_be_shards():
    sequences = some_sequences()
    num_tokens = sum(len(sequence.completion_ids) for sequence in sequences)
    assert useful_workers(some_settings(workers=64, shard_tokens=num_tokens), sequences) == 1
    assert useful_workers(some_settings(workers=64, shard_tokens=num_tokens - 1), sequences) == 2
    assert useful_workers(some_settings(workers=3, shard_tokens=1), sequences) == 3
    assert useful_workers(some_settings(workers=3), []) == 1


def test_errors_survive_the_way_to_the_parent():
    error = pickle.loads(pickle.dumps(CacheError("what", why="why", fix="fix")))
    assert (error.what, error.why, error.fix, str(error)) == ("what", "why", "fix", "what\nwhy: why\nfix: fix")


def test_threads_are_divided(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    assert [threads_of_worker(count) for count in (1, 3, 16)] == [8, 2, 1]
