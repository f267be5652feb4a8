"""A moving average of the weights: smoother than the last step's, and often the better model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from distill.errors import RecipeError
from distill.training.engine import zero_stage
from distill.training.settings import TrainSettings

FILE_NAME = "ema.safetensors"


class MovingAverage:
    r"""The exponential moving average of the trainable weights, in float32, on every rank: 4 bytes a weight.

    .. math:: \bar\theta_t = d_t \bar\theta_{t-1} + (1 - d_t) \theta_t, \quad d_t = \min(d, \frac{1 + t}{10 + t})

    The start's weight in it falls quickly, so that a short run's average is not its start.

    Args:
        module: inside the engine; all ranks hold its weights whole (ZeRO 0 to 2).
        decay: d.

    Source:
        Polyak & Juditsky 1992; the warm-up of d is that of TensorFlow's `ExponentialMovingAverage` (`num_updates`).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        self.averages = {name: weight.detach().float().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def update(self, *, step: int) -> None:
        """Takes in the weights after step `step`, counted from 1."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, average in self.averages.items():
            average.lerp_(self.weights[name].detach().float(), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the module holds the averages; afterwards its own weights, to the bit."""
        own = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._fill(self.averages)
        try:
            yield
        finally:
            self._fill(own)

    @torch.no_grad()
    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(values[name])

    def save(self, folder: Path) -> None:
        """Writes the averages to `ema.safetensors` in `folder`."""
        save_file({name: average.cpu() for name, average in self.averages.items()}, folder / FILE_NAME)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Reads what `save` wrote."""
        for name, average in load_file(folder / FILE_NAME).items():
            self.averages[name].copy_(average)


def require_whole_average(settings: TrainSettings, plan: Mapping[str, Any]) -> None:
    """Refuses a moving average of weights that are cut over the ranks.

    Raises:
        RecipeError: `ema_decay` is set and the memory plan is ZeRO stage 3.
    """
    if settings.ema_decay is not None and zero_stage(plan) >= 3:
        raise RecipeError(
            f"ema_decay is {settings.ema_decay}, and {settings.deepspeed} is ZeRO-3",
            why="the average would need every weight whole on every rank after each step, which ZeRO-3 is there to "
            "avoid",
            fix="train.deepspeed=ds_configs/zero2_offload.json, or leave ema_decay out",
        )
