"""What f-DPG learns of its answers as it goes: the normaliser of each prompt, and the usual reward."""

from collections import deque
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.settings import Settings


class RunningState(Settings):
    """Sums over what was seen, as a checkpoint holds them."""

    prompt_sums: dict[int, tuple[float, float]]
    windows: tuple[tuple[float, float], ...]


class RunningNormalisers:
    r"""For each prompt the mean of P / q over all answers so far, which estimates its Z.

    Source:
        Go et al. 2023 (f-DPG), arXiv:2302.08215, alg. 1.

    Args:
        sums: by the number of a prompt, what is known before the first step: the sum of P / q, and of how many answers.
    """

    def __init__(self, sums: Mapping[int, tuple[float, float]] | None = None) -> None:
        self.sums: dict[int, tuple[float, float]] = dict(sums or {})

    def add(self, prompts: Int[Tensor, " prompts"], sums: Tensor, counts: Tensor) -> None:
        """Takes in, for each of some prompts, the sum of P / q and the number of answers."""
        for prompt, total, count in zip(prompts.tolist(), sums.tolist(), counts.tolist(), strict=True):
            before = self.sums.get(prompt, (0.0, 0.0))
            self.sums[prompt] = (before[0] + total, before[1] + count)

    def log_of(self, prompts: Int[Tensor, " prompts"]) -> Float[Tensor, " prompts"]:
        """log Z of prompts that were seen; -inf where the target ruled all their answers out so far."""
        means = [self.sums[prompt][0] / self.sums[prompt][1] for prompt in prompts.tolist()]
        return torch.tensor(means, dtype=torch.float64).log()


class WindowedMean:
    """The mean over the latest answers, whole steps at a time; 0 before the first.

    Differs: the released code adds minibatch by minibatch within a step; here a step sees earlier steps alone, so that
    how it is cut into passes changes nothing.

    Args:
        window: answers that stay, at least; of earlier steps as few as reach it.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self.steps: deque[tuple[float, float]] = deque()

    def add(self, total: float, count: float) -> None:
        """Takes in the sum of a step's rewards, and their number."""
        self.steps.append((total, count))
        while sum(number for _, number in self.steps) - self.steps[0][1] >= self._window:
            self.steps.popleft()

    @property
    def mean(self) -> float:
        """Of what is in the window."""
        count = sum(number for _, number in self.steps)
        return sum(total for total, _ in self.steps) / count if count else 0.0
