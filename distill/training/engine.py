"""The DeepSpeed engine of a run: the memory plan of ds_configs/ joined with the numbers the recipe owns."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from distill.errors import RecipeError
from distill.models.world import World, import_deepspeed
from distill.training.settings import TrainSettings

RECIPE_OWNED = (
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "optimizer",
    "scheduler",
    "bf16",
    "fp16",
)


def accumulation_steps(settings: TrainSettings, *, world_size: int) -> int:
    """Forward passes of one rank in one optimizer step.

    Raises:
        RecipeError: the global batch does not divide into micro batches over the ranks.
    """
    per_pass = settings.micro_batch_size * world_size
    if settings.global_batch_size % per_pass:
        raise RecipeError(
            f"global_batch_size is {settings.global_batch_size}, micro_batch_size {settings.micro_batch_size}",
            why=f"over {world_size} process(es) one pass takes {per_pass} examples, which does not divide the batch",
            fix=f"set global_batch_size to a multiple of {per_pass}",
        )
    return settings.global_batch_size // per_pass


def memory_plan(settings: TrainSettings) -> dict[str, Any]:
    """The DeepSpeed configuration the recipe names, or stage 0.

    Raises:
        RecipeError: the file is missing, is no JSON object, or sets what the recipe owns.
    """
    if settings.deepspeed is None:
        return {"zero_optimization": {"stage": 0}}
    try:
        plan = json.loads(settings.deepspeed.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"deepspeed is {settings.deepspeed}: {error}",
            fix="name a file of ds_configs/, such as ds_configs/zero2.json",
        ) from error
    if not isinstance(plan, dict):
        raise RecipeError(f"deepspeed is {settings.deepspeed}", why="it holds no JSON object")
    owned = [key for key in RECIPE_OWNED if key in plan]
    if owned:
        raise RecipeError(
            f"{settings.deepspeed} sets {', '.join(owned)}",
            why="a memory plan holds no batch sizes, no optimizer and no dtype; the recipe owns them",
            fix=f"delete {', '.join(owned)} from {settings.deepspeed.name}",
        )
    return plan


def zero_stage(plan: Mapping[str, Any]) -> int:
    """The ZeRO stage of a memory plan."""
    return int(plan.get("zero_optimization", {}).get("stage", 0))


def clips_outside(plan: Mapping[str, Any], settings: TrainSettings) -> bool:
    """Whether the trainer clips the gradient: plain float32 is the case in which DeepSpeed keeps no norm."""
    return zero_stage(plan) == 0 and settings.dtype == "float32"


def configuration(plan: Mapping[str, Any], settings: TrainSettings, *, world_size: int) -> dict[str, Any]:
    """The memory plan joined with the numbers that the recipe owns.

    In bfloat16, stage 0 becomes stage 1: DeepSpeed's stage 0 keeps no float32 copy of the weights, and updates
    below 1/256 of a weight would round to nothing.
    """
    stage = max(zero_stage(plan), 1) if settings.dtype == "bfloat16" else zero_stage(plan)
    return {
        **plan,
        "zero_optimization": {**plan.get("zero_optimization", {}), "stage": stage},
        "train_micro_batch_size_per_gpu": settings.micro_batch_size,
        "gradient_accumulation_steps": accumulation_steps(settings, world_size=world_size),
        "gradient_clipping": 0.0 if clips_outside(plan, settings) else settings.max_grad_norm,
        "bf16": {"enabled": settings.dtype == "bfloat16"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def adamw(module: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; matrices decay, norms and biases do not."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.learning_rate, betas=settings.betas)


def start_engine(module: nn.Module, settings: TrainSettings, *, world: World) -> Any:
    """A DeepSpeed engine around `module`, with its optimizer."""
    deepspeed = import_deepspeed()
    config = configuration(memory_plan(settings), settings, world_size=world.world_size)
    engine, *_ = deepspeed.initialize(
        model=module, optimizer=adamw(module, settings), config=config, dist_init_required=False
    )
    return engine
