"""How many optimizer steps there are, and the learning rate of each; pure."""

import math

from distill.training.settings import TrainSettings


def num_steps(settings: TrainSettings, *, num_examples: int) -> int:
    """Optimizer steps of the whole run: `max_steps`, or as many as `num_epochs` passes hold, at least one."""
    if settings.max_steps is not None:
        return settings.max_steps
    assert settings.num_epochs is not None
    steps_per_epoch = max(num_examples // settings.global_batch_size, 1)
    return max(round(settings.num_epochs * steps_per_epoch), 1)


def lr_at(step: int, *, settings: TrainSettings, total_steps: int) -> float:
    r"""Learning rate of optimizer step `step`, counted from 0.

    Climbs as :math:`(t + 1) / (w + 1)` of the peak in the first w steps; step w is at the peak; then falls on a
    half cosine or a line that would meet `min_lr` one step after the last, so that no step is spent at zero.
    `constant` stays at the peak.

    Args:
        step: from 0 to `total_steps` - 1.
        settings: peak, warm-up, shape and floor.
        total_steps: of the whole run.
    """
    warmup_steps = min(math.ceil(settings.warmup_ratio * total_steps), total_steps - 1)
    if step < warmup_steps:
        return settings.learning_rate * (step + 1) / (warmup_steps + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    done = (step - warmup_steps) / (total_steps - warmup_steps)
    left = (1 + math.cos(math.pi * done)) / 2 if settings.schedule == "cosine" else 1 - done
    return settings.min_lr + (settings.learning_rate - settings.min_lr) * left
