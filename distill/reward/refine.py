"""EBRM's refinement: from the base reward uphill in energy, each answer with a step size of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from distill.settings import Settings

LEAST_STEP = 1e-6

Energy = Callable[[Float[Tensor, " batch"], Int[Tensor, " batch"]], Float[Tensor, " batch"]]
"""Energies of one candidate reward an answer; the second tensor says of which answers."""


class RefineSettings(Settings):
    """Where the ascent starts, and how it steps; rewards are in the units that the energy head was fitted in."""

    start: Literal["random", "clamp"] = Field(
        "random",
        description="of a base reward beyond `trusted`: random, as published, draws one up to `reach`; clamp, which is"
        " not the paper's, takes the nearest trusted one, so that no draw decides",
    )
    trusted: float = Field(2.0, gt=0, description="base rewards up to this size are started from")
    reach: float = Field(4.0, gt=0, description="size up to which random starts are drawn")
    max_steps: int = Field(50, ge=0, description="steps at most; 0 leaves the start as it is")
    step: float = Field(0.5, gt=0, description="lambda: first step size, times the slope of the energy")
    decay: float = Field(0.1, gt=0, lt=1, description="eta: factor of an answer's step size where a step went downhill")


@dataclass(frozen=True)
class Ascent:
    """What came of it, one value an answer: rewards, energies at the start and at the end, steps taken uphill."""

    rewards: Float[Tensor, " batch"]
    first_energies: Float[Tensor, " batch"]
    energies: Float[Tensor, " batch"]
    num_accepted: Int[Tensor, " batch"]
    num_steps: int


def ascend(energy: Energy, start: Float[Tensor, " batch"], settings: RefineSettings) -> Ascent:
    r"""Gradient ascent that takes a step only where it raises the energy.

    .. math:: \tilde r = r + \lambda f'(r); \quad r \leftarrow \tilde r \text{ if } f(\tilde r) > f(r), \text{ else }
        \lambda \leftarrow \eta \lambda

    An answer is done when its step size falls below 1e-6. What is not finite is never higher, so no step leads there.

    Args:
        energy: f, row by row.
        start: where each answer starts.
        settings: steps and sizes.

    Source:
        Lochab & Zhang 2025, arXiv:2504.13134, sec. on inference; the released `infer_rewards_batch_dramatic`.
    """
    rewards = start.detach().clone()
    every = torch.arange(len(rewards), device=rewards.device)
    with torch.no_grad():
        energies = energy(rewards, every)
    first, step = energies.clone(), torch.full_like(rewards, settings.step)
    num_accepted, num_steps = torch.zeros_like(every), 0
    active = every
    while num_steps < settings.max_steps and len(active):
        num_steps += 1
        proposed = rewards[active] + step[active] * _slope(energy, rewards[active], active)
        with torch.no_grad():
            found = energy(proposed, active)
        is_higher: Bool[Tensor, " batch"] = found > energies[active]
        taken, refused = active[is_higher], active[~is_higher]
        rewards[taken], energies[taken] = proposed[is_higher], found[is_higher]
        num_accepted[taken] += 1
        step[refused] *= settings.decay
        active = active[step[active] >= LEAST_STEP]
    return Ascent(rewards, first, energies, num_accepted, num_steps)


def start_rewards(
    base: Float[Tensor, " batch"], settings: RefineSettings, *, seeds: Sequence[int]
) -> Float[Tensor, " batch"]:
    """The hybrid start: the base reward where it is trusted, else a draw (or the nearest trusted reward).

    Args:
        base: rewards of the base model, in the head's units.
        settings: which of the two, and the bounds.
        seeds: of each answer's draw, so that it does not depend on what else is scored.
    """
    if settings.start == "clamp":
        return base.clamp(-settings.trusted, settings.trusted)
    start = base.clone()
    for row in (base.abs() > settings.trusted).nonzero().flatten().tolist():
        start[row] = np.random.default_rng(seeds[row]).uniform(-settings.reach, settings.reach)
    return start


def _slope(energy: Energy, rewards: Float[Tensor, " batch"], which: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    with torch.enable_grad():
        variable = rewards.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(variable, which).sum(), variable)
    return slope
