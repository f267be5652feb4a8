import json
import re
from pathlib import Path

import pytest
import torch

from distill.errors import RecipeError
from distill.training.engine import (
    adamw,
    clips_outside,
    configuration,
    memory_plan,
    require_dtype_of_device,
    zero_stage,
)
from tests.distill.training.examples import ROOT, settings

PLANS = sorted((ROOT / "ds_configs").glob("*.json"))


def test_the_shipped_memory_plans_are_these():
    names = ["cpu_zero1", "zero1_bf16", "zero2_bf16", "zero2_offload", "zero3_bf16", "zero3_offload"]
    assert [plan.stem for plan in PLANS] == names


@pytest.mark.parametrize("plan", PLANS, ids=lambda path: path.stem)
def test_a_shipped_memory_plan_is_what_its_name_says(plan: Path):
    is_half = plan.stem.endswith("_bf16")
    chosen = memory_plan(settings(deepspeed=str(plan), dtype="bfloat16" if is_half else "float32"))
    assert zero_stage(chosen) == int(re.findall(r"zero(\d)", plan.stem)[0])
    assert ("offload_optimizer" in chosen["zero_optimization"]) == plan.stem.endswith("_offload")
    assert chosen.keys() - {"bf16"} == {"zero_optimization"}


@pytest.mark.parametrize("plan", [plan for plan in PLANS if plan.stem.endswith("_bf16")], ids=lambda path: path.stem)
def test_a_plan_for_bfloat16_is_refused_by_a_recipe_of_another_dtype(plan: Path):
    with pytest.raises(RecipeError, match=rf"dtype is float32, and .*{plan.name} is a memory plan for bfloat16\nwhy: "):
        memory_plan(settings(deepspeed=str(plan)))


def test_the_dtype_is_the_recipes_whatever_a_plan_leaves_open():
    chosen = settings(deepspeed=str(ROOT / "ds_configs" / "zero2_offload.json"), dtype="bfloat16")
    assert configuration(memory_plan(chosen), chosen)["bf16"] == {"enabled": True}


@pytest.mark.parametrize("value", [{"enabled": False}, {"enabled": True, "immediate_grad_update": True}, True, None])
def test_a_memory_plan_says_no_more_of_bf16_than_that_it_is_meant_for_it(tmp_path: Path, value: object):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({"bf16": value}))
    with pytest.raises(RecipeError, match=r"plan\.json says bf16 is .*\nwhy: .*\nfix: write that, or delete bf16"):
        memory_plan(settings(deepspeed=str(path), dtype="bfloat16"))


@pytest.mark.parametrize("key", ["train_batch_size", "gradient_accumulation_steps", "optimizer", "fp16"])
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
    assert configuration(memory_plan(chosen), chosen)["zero_optimization"]["stage"] == 1


def test_float16_has_a_scale_that_moves_and_a_float32_copy_of_the_weights():
    chosen = settings(dtype="float16")
    made = configuration(memory_plan(chosen), chosen)
    assert made["zero_optimization"]["stage"] == 1
    assert not made["bf16"]["enabled"]
    assert made["fp16"]["enabled"]
    assert made["fp16"]["loss_scale"] == 0, "DeepSpeed's word for a dynamic scale"
    assert not configuration(memory_plan(settings()), settings())["fp16"]["enabled"]


def test_float16_is_refused_where_the_device_has_none():
    if torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_fp16_supported():
        pytest.skip("this machine has float16 arithmetic")
    with pytest.raises(RecipeError, match="dtype is float16, and this machine trains on cpu") as caught:
        require_dtype_of_device(settings(dtype="float16"))
    assert "dtype=bfloat16" in caught.value.fix
    require_dtype_of_device(settings(dtype="bfloat16"))


@pytest.mark.parametrize("key", ["tensorboard", "wandb", "csv_monitor", "comet"])
def test_monitors_are_the_recipes(tmp_path: Path, key: str):
    (tmp_path / "plan.json").write_text(json.dumps({key: {"enabled": True}}))
    with pytest.raises(RecipeError, match=f"plan.json sets {key}"):
        memory_plan(settings(deepspeed=str(tmp_path / "plan.json")))


def test_the_gradient_is_clipped_once():
    """Plain float32 is clipped by the trainer, everything else by DeepSpeed."""
    plain, half = settings(max_grad_norm=0.5), settings(max_grad_norm=0.5, dtype="bfloat16")
    plan = memory_plan(plain)
    assert clips_outside(plan, plain)
    assert configuration(plan, plain)["gradient_clipping"] == 0.0
    assert not clips_outside(plan, half)
    assert configuration(plan, half)["gradient_clipping"] == 0.5


def test_only_matrices_decay():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3))
    optimizer = adamw(module, settings(weight_decay=0.1))
    decays = {p.ndim: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}


@pytest.mark.parametrize("zero", ["true", '{"stage": "two"}', '{"stage": 4}', '{"stage": true}', "[]"])
def test_a_memory_plan_of_no_stage_is_refused(tmp_path: Path, zero: str):
    path = tmp_path / "plan.json"
    path.write_text(f'{{"zero_optimization": {zero}}}')
    with pytest.raises(RecipeError, match="zero_optimization is"):
        memory_plan(settings(deepspeed=str(path)))
