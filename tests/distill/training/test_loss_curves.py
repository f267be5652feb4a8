"""Fifty steps of daDPO from a cache: how they are spread over processes, passes and memory plans changes no loss."""

from pathlib import Path

import jaxtyping
import pytest
import torch
from safetensors.torch import load_file

from distill.progress import read_metrics
from tests.distill.training.examples import ROOT, run, run_job, scored_pairs

NUM_STEPS = 50
OBJECTIVE = {"name": "dadpo", "token_divergence": {"weight": 0.5}}
# Names of shipped plans name them; the others are stage 0. A batch has eight pairs: passes of four make two of it.
IN_FLOAT32: dict[str, dict[str, object]] = {
    "one pass": {},
    "passes of 24 tokens": {"micro_batch_size": None, "max_tokens_per_pass": 24},
    "cpu_zero1": {"micro_batch_size": 4},
    "zero2_offload": {"micro_batch_size": 2},
    "zero3_offload": {"micro_batch_size": 4},
}
IN_BFLOAT16: dict[str, dict[str, object]] = {
    "zero1_bf16": {"micro_batch_size": 4},
    "zero2_bf16": {"micro_batch_size": 4},
    "zero3_bf16": {},
}

Curves = dict[tuple[int, str], list[float]]
"""By number of processes and name: the loss of every step, then the held-out loss."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every training with one process, and with two, which make them one after the other."""
    folder = tmp_path_factory.mktemp("curves")
    scored_pairs(folder / "caches")
    for num_processes in (1, 2):
        jobs = [_job(folder, name, num_processes) for name in (*IN_FLOAT32, *IN_BFLOAT16)]
        short = {"learning_rate": 1e-2, "micro_batch_size": 8 // num_processes**2}
        jobs.append({"output": str(folder / str(num_processes) / "sft"), "settings": short})
        if num_processes == 1:
            jaxtyping.config.update("jaxtyping_disable", True)  # thousands of passes
            for job in jobs:
                run(job)
            jaxtyping.config.update("jaxtyping_disable", False)
        else:
            run_job(*jobs, num_processes=num_processes)
    return folder


@pytest.fixture(scope="module")
def curves(folder: Path) -> Curves:
    """What the metrics of all trainings say."""
    return {
        (num_processes, name): _losses(folder / str(num_processes) / name)
        for num_processes in (1, 2)
        for name in (*IN_FLOAT32, *IN_BFLOAT16, "sft")
    }


def _job(folder: Path, name: str, num_processes: int) -> dict[str, object]:
    plan = ROOT / "ds_configs" / f"{name}.json"
    changes: dict[str, object] = {"objective": OBJECTIVE, "learning_rate": 1e-2, "max_steps": NUM_STEPS}
    changes["dtype"] = "bfloat16" if name in IN_BFLOAT16 else "float32"
    if plan.exists():
        changes["deepspeed"] = str(plan)
    changes |= (IN_FLOAT32 | IN_BFLOAT16)[name]
    output = folder / str(num_processes) / name
    return {"output": str(output), "caches": str(folder / "caches"), "settings": changes}


def _losses(output: Path) -> list[float]:
    rows = read_metrics(output / "metrics.jsonl")
    return [row["loss"] for row in rows if "loss" in row] + [rows[-1]["valid_loss"]]


def test_every_shipped_plan_is_compared():
    stems = {path.stem for path in (ROOT / "ds_configs").glob("*.json")}
    assert stems <= IN_FLOAT32.keys() | IN_BFLOAT16.keys()
    assert {stem for stem in stems if stem.endswith("_bf16")} == IN_BFLOAT16.keys()


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("name", IN_FLOAT32)
def test_processes_passes_and_memory_plans_change_no_loss(curves: Curves, name: str, num_processes: int):
    expected, found = curves[1, "one pass"], curves[num_processes, name]
    assert len(found) == NUM_STEPS + 1
    assert expected[-2] < expected[0] - 0.3
    assert found == pytest.approx(expected, rel=0, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [1, 2])
@pytest.mark.parametrize("name", IN_BFLOAT16)
def test_in_bfloat16_they_change_little(curves: Curves, name: str, num_processes: int):
    """Sums of gradients are rounded to eight bits, in an order that processes and stages decide."""
    expected, found = curves[1, "zero1_bf16"], curves[num_processes, name]
    assert len(found) == NUM_STEPS + 1
    assert found == pytest.approx(expected, rel=0, abs=1e-3)
    assert found != curves[1, "one pass"]


@pytest.mark.slow
def test_two_processes_fine_tune_to_the_weights_of_one(folder: Path, curves: Curves):
    assert len(curves[1, "sft"]) == 4 + 1
    assert curves[2, "sft"] == pytest.approx(curves[1, "sft"], rel=1e-5)
    alone, both = (load_file(folder / number / "sft" / "model" / "model.safetensors") for number in ("1", "2"))
    torch.testing.assert_close(both, alone, rtol=1e-3, atol=1e-4)
