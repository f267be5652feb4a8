"""The processes that work together: a launcher's ranks, or one plain process; brings DeepSpeed in, when called."""

import importlib
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from distill.models.quiet import name_deepspeed_accelerator

LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
POLL_INTERVAL_S = 0.5


@dataclass(frozen=True)
class World:
    """The processes that work together, seen from one of them."""

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
        with warnings.catch_warnings():
            # Torch renamed collectives that DeepSpeed calls by their old names, once a tensor.
            warnings.filterwarnings("ignore", category=FutureWarning, message=r"`torch\.distributed\.")
            yield _joined_world()
    finally:
        for name in added:
            os.environ.pop(name, None)


def _joined_world() -> World:
    world = World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    deepspeed = import_deepspeed()
    if torch.cuda.is_available():
        torch.cuda.set_device(world.local_rank)
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed("nccl" if torch.cuda.is_available() else "gloo", verbose=False)
    return world


def import_deepspeed() -> Any:
    """DeepSpeed with its log on stderr, and on a CPU without the kernels it would compile for minutes.

    The shared-memory collectives are a compiled op; gloo's do the same work. Optimizers are torch's own.
    """
    name_deepspeed_accelerator()
    deepspeed = importlib.import_module("deepspeed")
    for handler in logging.getLogger("DeepSpeed").handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)
    if not torch.cuda.is_available():
        importlib.import_module("deepspeed.ops").__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def is_main_rank() -> bool:
    """Whether this process writes the files: the launcher's rank 0, or a plain process."""
    return os.environ.get("RANK", "0") == "0"


def wait_for_main_rank(path: Path) -> None:
    """Returns when the main process has written `path`; the launcher ends the waiting if that process dies."""
    while not path.exists():
        time.sleep(POLL_INTERVAL_S)


def _plain_run_variables() -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return dict(zip(LAUNCHER_VARIABLES, ("0", "1", "0", "127.0.0.1", str(port)), strict=True))
