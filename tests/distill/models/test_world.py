import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import distill.models.world as world_module
from distill.models.world import LAUNCHER_VARIABLES, World, is_main_rank, process_group, wait_for_main_rank
from tests.distill.training.examples import job_environment


@pytest.mark.slow
def test_importing_the_room_does_not_bring_deepspeed_in():
    code = "import sys, distill.training; sys.exit('deepspeed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=job_environment(), check=False).returncode == 0


def test_a_plain_process_is_a_world_of_one_and_leaves_no_launcher_variables():
    with process_group() as world:
        assert world == World(rank=0, world_size=1, local_rank=0)
        assert all(name in os.environ for name in LAUNCHER_VARIABLES)
    assert not any(name in os.environ for name in LAUNCHER_VARIABLES)


def test_a_world_of_one_sums_to_itself():
    world = World(0, 1, 0)
    assert world.summed(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
    assert world.from_main(7) == 7


def test_only_rank_zero_writes_files(monkeypatch: pytest.MonkeyPatch):
    assert is_main_rank()
    monkeypatch.setenv("RANK", "1")
    assert not is_main_rank()


def test_waiting_ends_when_the_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(world_module, "POLL_INTERVAL_S", 0.001)
    path = tmp_path / "report.json"
    threading.Timer(0.05, path.touch).start()
    wait_for_main_rank(path)
    assert path.exists()
