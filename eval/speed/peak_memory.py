"""Memory that a step takes: the process's peak above its level once model and optimizer stand."""

import torch

from distill.memory import peak_bytes, resident_bytes, restart_peak


def with_state(optimizer: torch.optim.Optimizer) -> None:
    """Gives AdamW the moments that its first step would make, all zero, so that they count as built.

    The step counter stands at 0 and what is there already stays, so that no update changes.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad and not optimizer.state[parameter]:
                # Written, not only reserved: pages of untouched zeros take no memory.
                first, second = (torch.empty_like(parameter).fill_(0.0) for _ in range(2))
                step = torch.zeros((), dtype=torch.float32)
                optimizer.state[parameter] = {"step": step, "exp_avg": first, "exp_avg_sq": second}


class PeakMemory:
    """Bytes of resident memory of this process.

    `level_bytes` stands when this is made and the peak counts from there on, where the system can start it anew
    (Linux can); elsewhere the peak is that of the whole process.
    """

    def __init__(self) -> None:
        self._before_bytes = peak_bytes()
        self.level_bytes = resident_bytes()
        restart_peak()

    @property
    def above_level_bytes(self) -> int:
        """What was needed on top of the level, at most, so far."""
        return max(peak_bytes() - self.level_bytes, 0)

    @property
    def raw_bytes(self) -> int:
        """The most that the process ever held."""
        return max(self._before_bytes, peak_bytes())
