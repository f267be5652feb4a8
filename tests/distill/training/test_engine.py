import json
from pathlib import Path

import pytest
import torch

from distill.errors import RecipeError
from distill.models.world import process_group
from distill.training.engine import (
    accumulation_steps,
    adamw,
    clips_outside,
    configuration,
    memory_plan,
    start_engine,
    zero_stage,
)
from distill.training.trainer import prepared_module
from tests.distill.training.examples import ROOT, new_student, settings

PLANS = sorted((ROOT / "ds_configs").glob("*.json"))


def test_the_global_batch_is_cut_over_ranks_and_passes():
    """32 examples, 4 a pass, 2 ranks: 32 / 8 = 4 passes."""
    assert accumulation_steps(settings(global_batch_size=32, micro_batch_size=4), world_size=2) == 4


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(RecipeError, match=r"global_batch_size is 10(.|\n)*set global_batch_size to a multiple of 8"):
        accumulation_steps(settings(global_batch_size=10, micro_batch_size=4), world_size=2)


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: path.stem)
def test_shipped_memory_plans_hold_no_recipe_numbers(plan: Path):
    chosen = memory_plan(settings(deepspeed=str(plan)))
    assert zero_stage(chosen) == int(plan.stem[4])
    assert not {"optimizer", "scheduler", "gradient_clipping"} & chosen.keys()


@pytest.mark.parametrize("key", ["train_batch_size", "gradient_accumulation_steps", "optimizer", "bf16"])
def test_a_memory_plan_with_recipe_numbers_is_refused(tmp_path: Path, key: str):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({key: 4}))
    with pytest.raises(RecipeError, match=f"plan.json sets {key}"):
        memory_plan(settings(deepspeed=str(path)))


@pytest.mark.parametrize("text", ["{", "[1]", None])
def test_a_memory_plan_that_is_no_object_is_refused(tmp_path: Path, text: str | None):
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=r"deepspeed is .*plan\.json"):
        memory_plan(settings(deepspeed=str(path)))


def test_without_a_memory_plan_it_is_stage_zero():
    assert zero_stage(memory_plan(settings())) == 0


def test_bfloat16_never_runs_without_a_float32_copy_of_the_weights():
    chosen = settings(dtype="bfloat16")
    assert configuration(memory_plan(chosen), chosen, world_size=1)["zero_optimization"]["stage"] == 1


def test_the_gradient_is_clipped_once():
    """Plain float32 is clipped by the trainer, everything else by DeepSpeed."""
    plain, half = settings(max_grad_norm=0.5), settings(max_grad_norm=0.5, dtype="bfloat16")
    plan = memory_plan(plain)
    assert clips_outside(plan, plain)
    assert configuration(plan, plain, world_size=1)["gradient_clipping"] == 0.0
    assert not clips_outside(plan, half)
    assert configuration(plan, half, world_size=1)["gradient_clipping"] == 0.5


def test_only_matrices_decay():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    optimizer = adamw(module, settings(weight_decay=0.1))
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS, ids=lambda path: path.stem)
def test_every_shipped_memory_plan_starts_an_engine(plan: Path):
    chosen = settings(deepspeed=str(plan))
    with process_group() as world:
        engine = start_engine(prepared_module(new_student(), chosen), chosen, world=world)
        assert engine.zero_optimization_stage() == int(plan.stem[4])
        engine.destroy()
