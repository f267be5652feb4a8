import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.errors import TrainingError
from distill.models.world import World
from distill.progress import read_metrics
from distill.training.universal import load_across_world_sizes
from tests.distill.training.examples import job_command, job_environment, run, run_job

OFFLOAD = {"offload_optimizer": {"device": "cpu"}}
KINDS: dict[str, dict[str, object]] = {
    "stage 0": {"plan": {"stage": 0}},
    "stage 1 with an average": {"plan": {"stage": 1}, "ema_decay": 0.9},
    "stage 2, offloaded adapters": {"plan": {"stage": 2, **OFFLOAD}, "has_adapters": True},
    "stage 3, offloaded": {
        "plan": {
            "stage": 3,
            "stage3_param_persistence_threshold": 0,
            "offload_param": {"device": "cpu"},
            **OFFLOAD,
        },
    },
}
SHARED = {"max_steps": 6, "save_every_steps": 3, "learning_rate": 1e-2, "weight_decay": 0.1, "schedule": "constant"}
LONG = {"settings": {"max_steps": 40, "save_every_steps": 4, "learning_rate": 1e-2, "save_models": False}}


def job(folder: Path, world: str, kind: str) -> dict[str, object]:
    """A training of one kind; `world` names its folder."""
    plan = folder / f"{kind}.json"
    changes = dict(KINDS[kind])
    plan.write_text(json.dumps({"zero_optimization": changes.pop("plan")}))
    has_adapters = changes.pop("has_adapters", False)
    changes["deepspeed"] = str(plan)
    return {"output": str(folder / world / kind), "has_adapters": has_adapters, "settings": SHARED | changes}


def half_done(source: Path, target: Path) -> None:
    """The run at `source` as it stood when its first checkpoint was its last."""
    shutil.copytree(source, target)
    shutil.rmtree(target / "checkpoints" / "step_000006")
    shutil.rmtree(target / "model")
    (target / "train_report.json").unlink()


def pid_of_rank(launcher: int, rank: int) -> int:
    """The process that torchrun started as `rank`."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    marked = f"RANK={rank}\0".encode()
    return next(int(pid) for pid in children if b"\0" + marked in b"\0" + Path(f"/proc/{pid}/environ").read_bytes())


def start_and_kill(command: dict[str, object]) -> int:
    """Kills rank 1 of two some steps after a checkpoint; returns the launcher's exit status."""
    metrics = Path(str(command["output"])) / "metrics.jsonl"
    process = subprocess.Popen(
        job_command(command, num_processes=2),
        env=job_environment(),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and len(read_metrics(metrics)) < 10:
        time.sleep(0.005)
    os.kill(pid_of_rank(process.pid, 1), signal.SIGKILL)
    return process.wait()


@dataclass(frozen=True)
class Runs:
    """Runs of one and of two processes, each also half done and ended by the other number; one that was killed."""

    folder: Path
    status_of_killed: int

    def weights(self, world: str, kind: str) -> dict[str, torch.Tensor]:
        (path,) = (self.folder / world / kind / "model").glob("*model.safetensors")
        return load_file(path)

    def losses(self, world: str, kind: str) -> list[float]:
        return [row["loss"] for row in read_metrics(self.folder / world / kind / "metrics.jsonl") if "loss" in row]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two launches of two processes make everything that needs two."""
    folder = tmp_path_factory.mktemp("runs (of 2+)")
    killed = {"output": str(folder / "killed" / "long"), **LONG}
    status = start_and_kill(killed)
    for kind in KINDS:
        run(job(folder, "one", kind))
        half_done(folder / "one" / kind, folder / "one then two" / kind)
    both = [job(folder, world, kind) for world in ("two", "one then two") for kind in KINDS]
    run_job(killed, {"output": str(folder / "whole" / "long"), **LONG}, *both, num_processes=2)
    for kind in KINDS:
        half_done(folder / "two" / kind, folder / "two then one" / kind)
        run(job(folder, "two then one", kind))
    return Runs(folder, status)


@pytest.mark.slow
@pytest.mark.parametrize(("world", "before"), [("two then one", "two"), ("one then two", "one")])
@pytest.mark.parametrize("kind", KINDS)
def test_another_number_of_processes_goes_on_where_the_first_stopped(runs: Runs, kind: str, world: str, before: str):
    """Weights, both moments, their counts of steps and the decay of each group cross over: losses and weights agree."""
    torch.testing.assert_close(runs.weights(world, kind), runs.weights(before, kind), rtol=1e-3, atol=2e-5)
    assert runs.losses(world, kind) == pytest.approx(runs.losses(before, kind), rel=1e-5)
    assert runs.losses(world, kind)[:3] == runs.losses(before, kind)[:3]
    folder = runs.folder / world / kind / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step_000003", "step_000006"]


@pytest.mark.slow
def test_a_run_of_two_one_of_which_was_killed_ends_with_the_same_bits(runs: Runs):
    assert runs.status_of_killed != 0
    assert runs.losses("killed", "long") == runs.losses("whole", "long")
    torch.testing.assert_close(runs.weights("killed", "long"), runs.weights("whole", "long"), rtol=0, atol=0)


class Engine:
    """An engine of some stage that was asked to load."""

    def __init__(self, stage: int) -> None:
        self.stage, self.loaded = stage, ""

    def zero_optimization_stage(self) -> int:
        return self.stage

    def load_checkpoint(self, folder: str, *, tag: str, load_module_strict: bool) -> None:
        assert not load_module_strict
        self.loaded = f"{folder}/{tag}"


def test_whole_states_need_no_joining(tmp_path: Path):
    engine = Engine(0)
    load_across_world_sizes(engine, tmp_path, tag="engine", world=World(0, 1, 0))
    assert engine.loaded == f"{tmp_path}/engine"


def test_parts_that_cannot_be_joined_leave_the_checkpoint_alone_and_nothing_beside_it(tmp_path: Path):
    folder = tmp_path / "step_000001"
    (folder / "engine").mkdir(parents=True)
    with pytest.raises(TrainingError, match=r"step_000001 cannot be brought to another number of processes"):
        load_across_world_sizes(Engine(2), folder, tag="engine", world=World(0, 1, 0))
    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "engine").is_dir()
