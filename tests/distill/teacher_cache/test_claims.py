import errno
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.teacher_cache.claim_owner import ClaimOwner, owner_of
from distill.teacher_cache.claims import UNSIGNED_LEASE_S, Claims

SPAWN = multiprocessing.get_context("spawn")


def claims(folder: Path, worker_id: str = "one", *, lease_s: float = 60.0) -> Claims:
    return Claims(folder, worker_id=worker_id, lease_s=lease_s)


def age(path: Path, seconds: float) -> None:
    """Makes a claim look untouched for so long."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - int(seconds * 1e9)))


def test_a_claim_is_had_by_one_worker_until_it_is_released(tmp_path):
    with claims(tmp_path) as one, claims(tmp_path, "two") as two:
        held = one.take("exact-00000")
        assert held is not None
        assert two.take("exact-00000") is None
        owner = owner_of((tmp_path / "exact-00000.json").read_bytes())
        assert (owner.worker, owner.lease_s, owner.process_id) == ("one", 60.0, os.getpid())
        one.release(held)
        assert two.take("exact-00000") is not None


def test_claims_are_apart_by_name(tmp_path):
    with claims(tmp_path) as one, claims(tmp_path, "two") as two:
        assert one.take("exact-00000") is not None
        assert two.take("exact-00001") is not None


def test_what_is_held_is_released_at_the_end_of_the_block(tmp_path):
    with claims(tmp_path) as one:
        one.take("exact-00000")
    assert list(tmp_path.iterdir()) == []


def test_an_expired_claim_is_taken_over_and_its_owner_knows(tmp_path, caplog):
    with claims(tmp_path) as one, claims(tmp_path, "two") as two:
        held = one.take("exact-00000")
        age(held.path, 61)
        with caplog.at_level(logging.WARNING):
            taken = two.take("exact-00000")
        assert taken is not None
        assert "exact-00000: one has not been heard of for 60 s; taking over" in caplog.text
        assert held.is_lost
        one.release(held)  # leaves the new owner's claim alone
        assert not taken.is_lost
        assert one.take("exact-00000") is None


def test_a_claim_that_is_almost_expired_is_left_alone(tmp_path):
    with claims(tmp_path) as one, claims(tmp_path, "two") as two:
        age(one.take("exact-00000").path, 50)
        assert two.take("exact-00000") is None


def test_a_claim_has_the_lease_that_its_owner_asked_for(tmp_path):
    """A worker with a longer lease beats more seldom: one with a short lease has to wait as long for it."""
    with claims(tmp_path, lease_s=60.0) as one, claims(tmp_path, "two", lease_s=1.0) as two:
        held = one.take("exact-00000")
        age(held.path, 50)
        assert two.take("exact-00000") is None
        age(held.path, 11)
        assert two.take("exact-00000") is not None


def test_the_claim_of_a_process_that_died_on_this_machine_is_had_at_once(tmp_path, caplog):
    over = subprocess.Popen([sys.executable, "-c", ""])
    over.wait()
    gone = ClaimOwner.here("gone", lease_s=60.0).model_copy(update={"process_id": over.pid})
    (tmp_path / "exact-00000.json").write_text(gone.model_dump_json())
    with claims(tmp_path) as one, caplog.at_level(logging.WARNING):
        assert one.take("exact-00000") is not None
    assert "exact-00000: gone has died; taking over" in caplog.text


def test_a_claim_whose_worker_was_killed_before_it_signed_does_not_bar_the_shard_for_a_whole_lease(tmp_path):
    path = tmp_path / "exact-00000.json"
    path.touch()
    with claims(tmp_path, "two", lease_s=600.0) as two:
        assert two.take("exact-00000") is None
        age(path, UNSIGNED_LEASE_S + 1)
        assert two.take("exact-00000") is not None


def test_a_claim_whose_file_a_server_has_forgotten_is_lost(tmp_path, monkeypatch):
    def stale(file: int) -> os.stat_result:
        raise OSError(errno.ESTALE, "Stale file handle")

    with claims(tmp_path) as one:
        held = one.take("exact-00000")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", stale)
            assert held.is_lost
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", lambda file: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
            with pytest.raises(OSError, match="Input/output"):
                _ = held.is_lost


def test_a_claim_that_comes_back_to_life_between_look_and_rename_is_put_back(tmp_path, monkeypatch):
    """The rename of a taker meets a claim that was touched after the look: it is alive, and stays with its owner."""
    with claims(tmp_path) as one, claims(tmp_path, "two") as two:
        held = one.take("exact-00000")
        age(held.path, 61)
        rename = Path.rename

        def late(path: Path, target: Path) -> Path:
            os.utime(held.file)
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", late)
        assert two.take("exact-00000") is None
        assert not held.is_lost
        assert [path.name for path in tmp_path.iterdir()] == ["exact-00000.json"]


def test_a_heartbeat_keeps_a_claim_fresh(tmp_path):
    with claims(tmp_path, lease_s=0.2) as one:
        one.take("exact-00000")
        first = (tmp_path / "exact-00000.json").stat().st_mtime_ns
        deadline = time.monotonic() + 10
        while (tmp_path / "exact-00000.json").stat().st_mtime_ns == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "exact-00000.json").stat().st_mtime_ns > first


def test_a_disk_that_cannot_hold_a_claim_leaves_none_behind(tmp_path, monkeypatch):
    def refuse(file: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with claims(tmp_path) as one, pytest.raises(OSError, match="No space left"):
        one.take("exact-00000")
    assert list(tmp_path.iterdir()) == []


def _take_and_hang(folder: Path, ready) -> None:
    held = Claims(folder, worker_id="doomed", lease_s=0.5).take("exact-00000")
    assert held is not None
    os.pwrite(held.file, b'{"worker": "doomed", "lease_s": 0.5}'.ljust(os.fstat(held.file).st_size), 0)
    ready.set()
    time.sleep(60)


@pytest.mark.slow
def test_the_claim_of_a_process_killed_on_another_host_is_had_after_its_lease(tmp_path):
    """What would tell that it ran on this one is taken out of its claim; while it lives, its heart keeps the claim."""
    ready = SPAWN.Event()
    process = SPAWN.Process(target=_take_and_hang, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    with claims(tmp_path, "heir") as heir:
        assert heir.take("exact-00000") is None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        deadline = time.monotonic() + 10
        while (taken := heir.take("exact-00000")) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert taken is not None


def _race(folder: Path, worker: int, barrier, wins) -> None:
    with Claims(folder, worker_id=str(worker), lease_s=60.0) as mine:
        for number in range(40):
            barrier.wait()
            claim = mine.take(f"exact-{number:05d}")
            barrier.wait()
            if claim is not None and not claim.is_lost:
                wins.put((number, worker))
        barrier.wait()


@pytest.mark.slow
def test_of_processes_that_race_for_dead_claims_one_wins_each(tmp_path):
    """Forty claims of a worker that is gone, four processes that all want each of them at once.

    A claim just made may be put aside by one who looked before it was there, and then be lost to a third; who holds it
    when all have tried is one.
    """
    for number in range(40):
        path = tmp_path / f"exact-{number:05d}.json"
        path.write_text('{"worker": "gone"}')
        age(path, 100)
    barrier, wins = SPAWN.Barrier(4), SPAWN.Queue()
    processes = [SPAWN.Process(target=_race, args=(tmp_path, worker, barrier, wins)) for worker in range(4)]
    for process in processes:
        process.start()
    won = [wins.get(timeout=60) for _ in range(40)]
    for process in processes:
        process.join()
    assert sorted(number for number, _ in won) == list(range(40))
    assert wins.empty()
