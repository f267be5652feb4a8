"""DeepSpeed, set up: the process group, the configuration, the engine; deepspeed is imported only here, when called."""

import importlib
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from distill.errors import RecipeError
from distill.training.settings import TrainSettings

log = logging.getLogger(__name__)

LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
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


@dataclass(frozen=True)
class World:
    """The processes that train together, seen from one of them."""

    rank: int
    world_size: int
    local_rank: int

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def summed(self, values: torch.Tensor) -> torch.Tensor:
        """`values` summed over all ranks, on the CPU."""
        if self.world_size > 1:
            values = values.to(self.device)
            torch.distributed.all_reduce(values)
        return values.cpu()

    def from_main(self, value: int) -> int:
        """The number that the main process holds."""
        held = torch.tensor([value if self.is_main else 0], dtype=torch.int64)
        return int(self.summed(held).item())

    def wait(self) -> None:
        """Returns when every rank has come here."""
        if self.world_size > 1:
            torch.distributed.barrier()


@contextmanager
def process_group() -> Iterator[World]:
    """The world of a launcher (torchrun, deepspeed), or a world of one for a plain `python`.

    A plain run gets the launcher's variables for the length of the block only, so that programs started
    later do not take themselves for a rank.
    """
    is_launched = all(name in os.environ for name in LAUNCHER_VARIABLES)
    added = {} if is_launched else _plain_run_variables()
    os.environ.update(added)
    try:
        world = World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
        deepspeed = import_deepspeed()
        if torch.cuda.is_available():
            torch.cuda.set_device(world.local_rank)
        if not deepspeed.comm.is_initialized():
            deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo", verbose=False)
        yield world
    finally:
        for name in added:
            os.environ.pop(name, None)


def import_deepspeed() -> Any:
    """DeepSpeed with its log on stderr, and on a CPU without the kernels it would compile for minutes.

    The shared-memory collectives are a compiled op; gloo's do the same work. Optimizers are torch's own.
    """
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    deepspeed = importlib.import_module("deepspeed")
    for handler in logging.getLogger("DeepSpeed").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
    if not torch.cuda.is_available():
        importlib.import_module("deepspeed.ops").__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


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
            f"deepspeed is {settings.deepspeed}: {error}", fix="name a file of ds_configs/, such as ds_configs/zero2.json"
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
    """The memory plan joined with the numbers that the recipe owns."""
    return {
        **plan,
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


def _plain_run_variables() -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return dict(zip(LAUNCHER_VARIABLES, ("0", "1", "0", "127.0.0.1", str(port)), strict=True))
