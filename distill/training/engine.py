"""The DeepSpeed engine of a run: the memory plan of ds_configs/ joined with the numbers the recipe owns."""

import importlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from distill.errors import RecipeError
from distill.models.world import import_deepspeed
from distill.training.settings import TrainSettings

RECIPE_OWNED = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "optimizer",
    "scheduler",
    "fp16",
    "tensorboard",
    "wandb",
    "csv_monitor",
    "comet",
)

NUM_SCALED_STEPS = 1000
"""float16: steps without an overflow after which the loss scale doubles."""


def memory_plan(settings: TrainSettings) -> dict[str, Any]:
    """The DeepSpeed configuration the recipe names, or stage 0.

    Raises:
        RecipeError: the file is missing, is no JSON object, sets what the recipe owns, or is meant for a dtype other
            than the recipe's.
    """
    if settings.deepspeed is None:
        return {"zero_optimization": {"stage": 0}}
    try:
        plan = json.loads(settings.deepspeed.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"deepspeed is {settings.deepspeed}: {error}",
            fix="name a file of ds_configs/, such as ds_configs/zero2_bf16.json",
        ) from error
    if not isinstance(plan, dict):
        raise RecipeError(f"deepspeed is {settings.deepspeed}", why="it holds no JSON object")
    owned = [key for key in RECIPE_OWNED if key in plan]
    if owned:
        raise RecipeError(
            f"{settings.deepspeed} sets {', '.join(owned)}",
            why="a memory plan holds no batch sizes, no optimizer and no monitors; the recipe owns them",
            fix=f"delete {', '.join(owned)} from {settings.deepspeed.name}",
        )
    zero = plan.get("zero_optimization", {})
    if not isinstance(zero, dict) or zero.get("stage", 0) not in (0, 1, 2, 3) or isinstance(zero.get("stage", 0), bool):
        raise RecipeError(
            f"{settings.deepspeed} says zero_optimization is {json.dumps(zero)}",
            why="it has to be an object whose stage is 0, 1, 2 or 3",
        )
    _require_dtype(plan, settings)
    return plan


def _require_dtype(plan: Mapping[str, Any], settings: TrainSettings) -> None:
    """Compares the dtype that a plan is written for, where it says one, with the recipe's, which alone decides.

    Raises:
        RecipeError: they differ, or the plan says something else about bf16 than that it is enabled.
    """
    if "bf16" not in plan:
        return
    if plan["bf16"] != {"enabled": True}:
        raise RecipeError(
            f"{settings.deepspeed} says bf16 is {json.dumps(plan['bf16'])}",
            why='a memory plan may say that it is written for bfloat16, by "bf16": {"enabled": true}, and no more',
            fix="write that, or delete bf16 from the plan and set dtype in the recipe",
        )
    if settings.dtype != "bfloat16":
        raise RecipeError(
            f"dtype is {settings.dtype}, and {settings.deepspeed} is a memory plan for bfloat16",
            why="the two name different dtypes for the same weights",
            fix="set dtype: bfloat16 in that section of the recipe, or choose a plan without bf16 in its name",
        )


def zero_stage(plan: Mapping[str, Any]) -> int:
    """The ZeRO stage of a memory plan."""
    return int(plan.get("zero_optimization", {}).get("stage", 0))


def clips_outside(plan: Mapping[str, Any], settings: TrainSettings) -> bool:
    """Whether the trainer clips the gradient: plain float32 is the case in which DeepSpeed keeps no norm."""
    return zero_stage(plan) == 0 and settings.dtype == "float32"


def configuration(plan: Mapping[str, Any], settings: TrainSettings) -> dict[str, Any]:
    """The memory plan joined with the numbers that the recipe owns.

    In bfloat16 and float16, stage 0 becomes stage 1: DeepSpeed's stage 0 keeps no float32 copy of the weights, and
    updates below 1/256 of a weight (1/2048 in float16) would round to nothing. float16 has a dynamic loss scale, which
    starts at 65,536, halves when a gradient overflows and doubles after 1,000 steps in which none did.
    """
    stage = zero_stage(plan) if settings.dtype == "float32" else max(zero_stage(plan), 1)
    return {
        **plan,
        "zero_optimization": {**plan.get("zero_optimization", {}), "stage": stage},
        # The trainer says which pass is a step's last: their number follows from the lengths of the examples.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0 if clips_outside(plan, settings) else settings.max_grad_norm,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "fp16": _loss_scaling(settings),
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def _loss_scaling(settings: TrainSettings) -> dict[str, Any]:
    if settings.dtype != "float16":
        return {"enabled": False}
    return {
        "enabled": True,
        "loss_scale": 0,
        "initial_scale_power": 16,
        "loss_scale_window": NUM_SCALED_STEPS,
        # Every overflow halves the scale, so that a scale at its least is seen before DeepSpeed gives up.
        "hysteresis": 1,
        "min_loss_scale": 1,
    }


def require_dtype_of_device(settings: TrainSettings) -> None:
    """Refuses a dtype in which this machine does not train.

    Raises:
        RecipeError: dtype is float16, and DeepSpeed says that the device does not have it.
    """
    if settings.dtype != "float16":
        return
    import_deepspeed()
    accelerator = importlib.import_module("deepspeed.accelerator").get_accelerator()
    if not accelerator.is_fp16_supported():
        raise RecipeError(
            f"dtype is float16, and this machine trains on {accelerator.device_name()}",
            why="its processor has no float16 arithmetic, and DeepSpeed refuses to train without",
            fix="dtype=float32, or dtype=bfloat16 for half the memory of the weights",
        )


def adamw(module: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; matrices decay, norms and biases do not."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    used = [group for group in groups if group["params"]]
    # One pass over weights, gradients and moments in place of ten.
    return torch.optim.AdamW(used, lr=settings.learning_rate, betas=settings.betas, fused=True)


def start_engine(module: nn.Module, settings: TrainSettings) -> Any:
    """A DeepSpeed engine around `module`, with its optimizer.

    Raises:
        RecipeError: the memory plan or the dtype will not do.
    """
    require_dtype_of_device(settings)
    deepspeed = import_deepspeed()
    config = configuration(memory_plan(settings), settings)
    engine, *_ = deepspeed.initialize(
        model=module, optimizer=adamw(module, settings), config=config, dist_init_required=False
    )
    if zero_stage(config) == 0 and engine.dp_world_size == 1:
        # Stage 0 copies all gradients into one tensor and back to add them up over ranks; one rank has nothing to add.
        engine.enable_backward_allreduce = False
    return engine
