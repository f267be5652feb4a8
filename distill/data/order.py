"""Which example comes when: pure functions of seed, epoch, step and rank, so that a resumed run sees the same."""

import random
from collections.abc import Sequence

from distill.errors import DataError


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> list[int]:
    """A permutation of the examples, its own for each (seed, epoch)."""
    order = list(range(num_examples))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order


def steps_per_epoch(num_examples: int, *, global_batch_size: int) -> int:
    """Optimizer steps that one epoch makes; see `step_indices` for the remainder.

    Raises:
        DataError: there are no examples.
    """
    if num_examples < 1:
        raise DataError("there are no examples to train on", fix="look at the counts of dropped rows in the log")
    return max(num_examples // global_batch_size, 1)


def step_indices(num_examples: int, *, seed: int, global_batch_size: int, step: int) -> list[int]:
    """The examples of optimizer step `step`, counted from 0 over all epochs.

    Each epoch has its own order. Where the examples fill at least one batch, the remainder of an epoch is left out
    (another epoch's order brings them in), so that every step has the same size; fewer examples than a batch make
    one step an epoch, of all of them.
    """
    steps = steps_per_epoch(num_examples, global_batch_size=global_batch_size)
    epoch, position = divmod(step, steps)
    order = epoch_order(num_examples, seed=seed, epoch=epoch)
    return order[position * global_batch_size : (position + 1) * global_batch_size]


def rank_share(indices: Sequence[int], *, rank: int, world_size: int) -> list[int]:
    """Every `world_size`-th index from `rank` on: shares differ by one at most, and together are all."""
    return list(indices[rank::world_size])
