"""Fits a scalar head on a frozen language model's last states from preference pairs, in closed loop and in float64.

The body reads each answer once; what remains is a convex problem in as many numbers as a state has.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from distill.data import PreferencePair
from distill.errors import DataError, TrainingError
from distill.files import fingerprint
from distill.models import LoadedModel
from distill.models.scalar_head import with_scalar_head
from distill.reward.reward_model import RewardModel, conversations_of
from distill.settings import Settings

log = logging.getLogger(__name__)

Vector = Float64[np.ndarray, " hidden"]
Matrix = Float64[np.ndarray, "pairs hidden"]


class RewardFitSettings(Settings):
    """How the head is fitted."""

    l2: float = Field(1e-2, gt=0, description="pull toward zero, on states scaled to unit deviation; half its square")
    max_iterations: int = Field(1000, gt=0, description="of L-BFGS")


@dataclass(frozen=True)
class FittedReward:
    """A fitted model, calibrated on the same pairs; `loss` (nats) and `accuracy` are those on them."""

    model: RewardModel
    loss: float
    accuracy: float
    num_pairs: int


def bradley_terry_loss(weight: Vector, differences: Matrix, *, l2: float) -> tuple[float, Vector]:
    r"""Mean negative log-likelihood of the preferences with its gradient, in nats.

    .. math:: -\frac1n \sum_i \log \sigma(w \cdot d_i) + \frac{\lambda}{2} \|w\|^2

    A bias would cancel in the differences, so there is none.

    Args:
        weight: of the head.
        differences: state of the chosen answer less that of the rejected.
        l2: :math:`\lambda`.

    Source:
        Bradley & Terry 1952; as a reward model's loss: Ouyang et al. 2022, arXiv:2203.02155, eq. 1.
    """
    margins = differences @ weight
    loss = np.logaddexp(0.0, -margins).mean() + 0.5 * l2 * weight @ weight
    gradient = l2 * weight - differences.T @ expit(-margins) / len(margins)
    return float(loss), gradient


def fit_reward_model(
    body: LoadedModel, pairs: Sequence[PreferencePair], settings: RewardFitSettings | None = None
) -> FittedReward:
    """A reward model on top of `body`, whose weights stay as they are and are shared, not copied.

    Args:
        body: a chat model.
        pairs: what is preferred to what; every answer must fit the body's longest sequence.
        settings: of the fit.

    Raises:
        DataError: there is no pair, the states do not differ, or an answer is too long.
        ModelError: transformers knows no sequence classifier of this family.
        TrainingError: L-BFGS did not converge.
    """
    settings = settings or RewardFitSettings()
    if not pairs:
        raise DataError("no pairs to fit a reward model on", why="there is nothing to prefer", fix="give pairs")
    states = RewardModel(body).embeddings(conversations_of(pairs))
    head, loss = fit_head(states, settings)
    model = with_head(body, head).calibrated(pairs)
    chosen, rejected = states.double().view(2, len(pairs), -1).unbind()
    accuracy = float(((chosen - rejected) @ head > 0).double().mean())
    log.info("reward head on %d pairs: loss %.4f nats, accuracy %.3f", len(pairs), loss, accuracy)
    return FittedReward(model, loss, accuracy, len(pairs))


def fit_head(
    states: Float[Tensor, "answers hidden"], settings: RewardFitSettings
) -> tuple[Float[Tensor, " hidden"], float]:
    """The head's weights in float64, and the loss in nats.

    Args:
        states: of the chosen answers of all pairs, then of the rejected ones.
        settings: of the fit.

    Raises:
        DataError: the states do not differ.
        TrainingError: L-BFGS did not converge.
    """
    values = states.double().numpy()
    num_pairs = len(values) // 2
    deviations = values.std(axis=0)
    if not deviations.any():
        raise DataError(
            f"all answers of {num_pairs} pairs have the same last state",
            why="no head can tell them apart",
            fix="give pairs of different answers, or another body",
        )
    deviations = np.where(deviations > 0, deviations, 1.0)
    weight, loss = _minimum((values[:num_pairs] - values[num_pairs:]) / deviations, settings)
    return torch.from_numpy(weight / deviations), loss


def with_head(body: LoadedModel, head: Float[Tensor, " hidden"]) -> RewardModel:
    """The body, shared, under a head of these weights; not calibrated.

    Raises:
        ModelError: transformers knows no sequence classifier of this family.
    """
    made_of = fingerprint([body.fingerprint, head.tolist()])
    return RewardModel(LoadedModel(with_scalar_head(body.model, head), body.tokenizer, body.source, made_of))


def _minimum(differences: NDArray[np.float64], settings: RewardFitSettings) -> tuple[NDArray[np.float64], float]:
    def loss(weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        return bradley_terry_loss(weight, differences, l2=settings.l2)

    found = minimize(
        loss,
        np.zeros(differences.shape[1]),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": settings.max_iterations},
    )
    if not found.success:
        raise TrainingError(
            f"the reward head did not converge in {settings.max_iterations} iterations",
            why=str(found.message),
            fix="raise l2 or max_iterations",
        )
    return found.x, float(found.fun)
