"""Base reward model against EBRM on held-out pairs: one fit a seed, each with another fold held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from distill.errors import DataError
from distill.models import LoadedModel
from distill.reward import (
    EnergyRewardModel,
    conversations_of,
    energy_reward_model,
    fit_energy_head,
    fit_head,
    with_head,
)
from eval.energy_settings import RewardStageSettings
from eval.pair_sets import GroupedPair, fold_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Held:
    """One seed's held-out pairs: margins of chosen over rejected by the base model and by EBRM, in base units.

    `share_restarted` of the answers had a base reward beyond what is trusted; `steps` is the mean of steps uphill.
    """

    base: Floats
    refined: Floats
    clusters: tuple[str, ...]
    num_fitted: int
    num_kept: int
    share_restarted: float
    steps: float
    least_climb: float


@dataclass(frozen=True)
class SeedFit:
    """The models of one seed and what they made of its held-out pairs."""

    model: EnergyRewardModel
    held: Held


def fitted_on_fold(
    body: LoadedModel,
    pairs: Sequence[GroupedPair],
    states: Float[Tensor, "answers hidden"],
    settings: RewardStageSettings,
    *,
    seed: int,
) -> SeedFit:
    """Fits base head and energy head on all folds but one, and reads the held-out one.

    Args:
        body: under the heads.
        pairs: of one set.
        states: the body's, of the chosen answers of all pairs, then of the rejected ones.
        settings: of both fits; folds.
        seed: of the energy head and its starts; fold `seed` modulo the number of folds is held out.

    Raises:
        DataError: a fold is empty, or a fit is refused.
    """
    is_held = torch.tensor([fold_of(pair, settings.num_folds) == seed % settings.num_folds for pair in pairs])
    if not is_held.any() or is_held.all():
        num_held = int(is_held.sum())
        raise DataError(
            f"fold {seed % settings.num_folds} of {settings.num_folds} holds {num_held} of {len(pairs)} pairs",
            why="one part is fitted on and the other measured",
            fix="give more pairs, or ask for fewer folds",
        )
    own, held = states[~is_held.repeat(2)], states[is_held.repeat(2)]
    head, _ = fit_head(own, settings.base)
    base = with_head(body, head)
    fitted = fit_energy_head(own, base.rewards_of(own), settings.energy, seed=seed)
    model = energy_reward_model(base, fitted, settings.refine, seed=seed)
    kept = [pair for pair, is_own in zip(pairs, is_held.tolist(), strict=True) if is_own]
    base_rewards = base.rewards_of(held)
    seeds = [model.start_seed(one) for one in conversations_of([pair.pair for pair in kept])]
    ascent = model.ascent(held.float(), base_rewards, seeds=seeds)
    beyond = fitted.scale.inward(base_rewards).abs() > settings.refine.trusted
    return SeedFit(
        model,
        Held(
            base=margins(base_rewards),
            refined=margins(fitted.scale.outward(ascent.rewards)),
            clusters=tuple(pair.cluster for pair in kept),
            num_fitted=fitted.num_pairs,
            num_kept=fitted.num_kept,
            share_restarted=float(beyond.double().mean()),
            steps=float(ascent.num_accepted.double().mean()),
            least_climb=float((ascent.energies - ascent.first_energies).min()),
        ),
    )


def margins(rewards: Float[Tensor, " answers"]) -> Floats:
    """Of chosen over rejected; rewards of all chosen answers come first."""
    chosen, rejected = rewards.double().view(2, -1).unbind()
    found: Floats = (chosen - rejected).numpy()
    return found


def points(margin: Floats) -> Floats:
    """1 where the chosen answer has the higher reward, half for equal ones."""
    found: Floats = np.where(margin == 0, 0.5, (margin > 0).astype(np.float64))
    return found
