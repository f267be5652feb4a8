"""Fits an energy head on a base model's cached states and rewards, by NCE+."""

import logging
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from distill.errors import DataError, TrainingError
from distill.objectives.energy_nce import draw_candidates, nce_plus_loss, noise_log_density
from distill.progress import tracked
from distill.reward.conflicts import kept_answers
from distill.reward.energy_head import EnergyHead, EnergyHeadSettings
from distill.settings import Settings

log = logging.getLogger(__name__)


class EnergyFitSettings(Settings):
    """How an energy head is fitted; the defaults are those of the published run on 49,400 pairs."""

    head: EnergyHeadSettings = Field(EnergyHeadSettings(), description="sizes of the network")
    drops_conflicts: bool = Field(True, description="leave out pairs that the base model ranks against their label")
    spread: float | None = Field(
        None,
        gt=0,
        description="standard deviation that base rewards are scaled to, around 0; published: 4 where they are scaled;"
        " none: they are read as they are",
    )
    sigmas: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (3.5,), min_length=1, description="widths of the noise around the base reward, in scaled units"
    )
    label_noise: float = Field(0.1, ge=0, description="beta: width of the label's noise as a share of the others'")
    num_negatives: int = Field(768, gt=0, description="M: draws of the noise an answer and step")
    energy_penalty: float = Field(0.05, ge=0, description="weight of the mean squared energy")
    learning_rate: float = Field(9e-5, gt=0, description="of AdamW")
    decays: bool = Field(
        False, description="let the learning rate fall to 0, linearly, which is not the paper's; else it is constant"
    )
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW")
    batch_size: int = Field(256, gt=0, description="answers a step")
    num_epochs: int = Field(5, gt=0, description="passes over the answers, in a new order each")


@dataclass(frozen=True)
class RewardScale:
    """Base rewards to the head's units and back: (reward - centre) / width."""

    centre: float = 0.0
    width: float = 1.0

    def inward(self, rewards: Float[Tensor, " answers"]) -> Float[Tensor, " answers"]:
        """Base units to the head's."""
        return (rewards - self.centre) / self.width

    def outward(self, rewards: Float[Tensor, " answers"]) -> Float[Tensor, " answers"]:
        """The head's units to the base's."""
        return rewards * self.width + self.centre


@dataclass(frozen=True)
class FittedEnergy:
    """A fitted head, its units, and what it learned from; losses are means over the first and the last epoch."""

    head: EnergyHead
    scale: RewardScale
    num_pairs: int
    num_kept: int
    first_loss: float
    last_loss: float


def fit_energy_head(
    states: Float[Tensor, "answers hidden"],
    rewards: Float[Tensor, " answers"],
    settings: EnergyFitSettings,
    *,
    seed: int,
) -> FittedEnergy:
    """The energy of rewards given states; both answers of each kept pair are examples.

    Args:
        states: of the chosen answers of all pairs, then of the rejected ones.
        rewards: the base model's, of the same answers.
        settings: network, noise, training.
        seed: of the start, the order, the noise and the dropout.

    Raises:
        DataError: fewer than two pairs are left, or their rewards do not differ.
        TrainingError: the loss is not finite.
    """
    num_pairs = len(rewards) // 2
    states, rewards = states.detach().float(), rewards.detach().float()
    if settings.drops_conflicts:
        states, rewards = kept_answers(states, rewards)
    if len(rewards) < 4 or not rewards.std(correction=0) > 0:
        raise DataError(
            f"{len(rewards) // 2} of {num_pairs} pairs are left to fit an energy head on, or their rewards are equal",
            why="the base model ranks the others against their labels",
            fix="give more pairs, a better base model, or set drops_conflicts: false",
        )
    scale = RewardScale()
    if settings.spread is not None:
        scale = RewardScale(float(rewards.mean()), float(rewards.std(correction=0)) / settings.spread)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = EnergyHead(states.shape[1], settings.head)
        head.standardise(states)
        first, last = _trained(head, states, scale.inward(rewards), settings, seed=seed)
    log.info("energy head on %d of %d pairs: NCE+ %.4f, then %.4f", len(rewards) // 2, num_pairs, first, last)
    return FittedEnergy(head.eval(), scale, num_pairs, len(rewards) // 2, first, last)


def _trained(
    head: EnergyHead, states: Tensor, rewards: Tensor, settings: EnergyFitSettings, *, seed: int
) -> tuple[float, float]:
    """Trains in place; the mean loss of the first and of the last epoch."""
    draws = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(head.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    num_steps = settings.num_epochs * -(-len(rewards) // settings.batch_size)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / num_steps if settings.decays else 1.0)
    losses: list[float] = []
    head.train()
    with tracked("energy head, epochs", settings.num_epochs) as progress:
        for _ in range(settings.num_epochs):
            total = 0.0
            for batch in torch.split(torch.randperm(len(rewards), generator=draws), settings.batch_size):
                loss = energy_loss(head, states[batch], rewards[batch], settings, generator=draws)
                optimiser.zero_grad()
                torch.autograd.backward(loss.mean())
                optimiser.step()
                rate.step()
                total += float(loss.detach().sum())
            losses.append(total / len(rewards))
            if not torch.isfinite(torch.tensor(losses[-1])):
                raise TrainingError(
                    f"the energy head's loss is {losses[-1]} after {len(losses)} epochs",
                    why="the steps are too large, or a state is not finite",
                    fix="lower learning_rate",
                )
            progress.advance(figures={"nce": losses[-1]})
    return losses[0], losses[-1]


def energy_loss(
    head: EnergyHead, states: Tensor, rewards: Tensor, settings: EnergyFitSettings, *, generator: torch.Generator
) -> Float[Tensor, " batch"]:
    """NCE+ of one batch, one value an answer, with fresh noise."""
    candidates = draw_candidates(
        rewards,
        num_negatives=settings.num_negatives,
        sigmas=settings.sigmas,
        label_noise=settings.label_noise,
        generator=generator,
    )
    noise = noise_log_density(candidates, rewards, sigmas=settings.sigmas)
    return nce_plus_loss(head(states, candidates), noise, energy_penalty=settings.energy_penalty)
