import json
import os
import subprocess
import sys

import pytest

from distill.teacher_cache.claim_owner import ClaimOwner, owner_at, owner_of


def owner_with(**changes: object) -> ClaimOwner:
    return ClaimOwner.here("one", lease_s=60.0).model_copy(update=changes)


def ended_process() -> int:
    """The number of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_claim_says_who_holds_it():
    owner = ClaimOwner.here("one", lease_s=60.0)
    assert owner_of(owner.model_dump_json().encode()) == owner
    assert owner.process_id == os.getpid()


def test_a_process_that_runs_has_not_died():
    assert not owner_with().has_died


def test_a_process_that_is_over_has_died():
    assert owner_with(process_id=ended_process()).has_died


def test_a_process_that_was_killed_and_not_looked_after_has_died():
    """The system keeps its number, in state Z, until its parent asks how it ended."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert owner_with(process_id=process.pid).has_died
    process.wait()


def test_a_number_that_was_given_anew_is_another_process():
    owner = owner_with()
    assert owner.started is not None
    assert owner_with(started=owner.started + 1).has_died


def test_nothing_is_known_of_processes_elsewhere():
    over = ended_process()
    assert not owner_with(process_id=over, place="another host").has_died
    assert not owner_with(process_id=over, place=None).has_died
    assert not owner_with(process_id=over, started=None).has_died


def test_a_claim_that_cannot_be_read_has_no_owner(tmp_path):
    for content in (b"", b"{", b"[]", b'{"worker": "one"}', b'{"worker": "one", "lease_s": -1}', b"\xff"):
        assert owner_of(content) is None
        (tmp_path / "claim.json").write_bytes(content)
        assert owner_at(tmp_path / "claim.json") is None
    assert owner_at(tmp_path / "nowhere.json") is None
    assert owner_at(tmp_path) is None


@pytest.mark.parametrize(
    "change", ['"lease_s": Infinity', '"lease_s": 1e9', '"process_id": 0', f'"process_id": {2**64}']
)
def test_a_claim_with_numbers_of_no_worker_has_no_owner(change):
    assert owner_of(b'{"worker": "one", "lease_s": 60, ' + change.encode() + b"}") is None


def test_the_claim_of_a_dead_process_is_told_from_its_file(tmp_path):
    path = tmp_path / "claim.json"
    path.write_text(owner_with(process_id=ended_process()).model_dump_json())
    owner = owner_at(path)
    assert owner is not None
    assert owner.has_died
    path.write_text(json.dumps({"worker": "one", "lease_s": 60}))
    assert owner_at(path) == ClaimOwner(worker="one", lease_s=60)
