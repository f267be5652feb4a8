r"""Targets as products, in log space: :math:`\log P = \log a + \sum_i \log b_i + \sum_i \lambda_i \phi_i + r / \beta`.

a is the base model, b a binary scorer, phi a feature whose mean the target prescribes, r a reward. Everything is
unnormalised, and all that f-DPG needs.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from distill.errors import RecipeError, TrainingError
from distill.numerics import widened

MAX_STEP = 2.0
MAX_COEFFICIENT = 50.0


def rewarded(
    base_log_probs: Float[Tensor, " batch"], rewards: Float[Tensor, " batch"], *, beta: float
) -> Float[Tensor, " batch"]:
    r""":math:`\log P = \log a + r / \beta`: the policy that RL with a KL penalty of weight beta ends at.

    Raises:
        RecipeError: beta is not positive and finite.

    Source:
        Korbak et al. 2022, arXiv:2206.00761, thm. 1.
    """
    _require_positive("beta", beta)
    return widened(base_log_probs) + widened(rewards) / beta


def constrained(base_log_probs: Float[Tensor, " batch"], is_allowed: Bool[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    r""":math:`\log P = \log a + \log b`, b in {0, 1}: the base without the answers that are not allowed.

    Source:
        Khalifa et al. 2021 (GDC), arXiv:2012.11635, sec. 2.
    """
    return torch.where(is_allowed, widened(base_log_probs), -torch.inf)


def tilted(
    base_log_probs: Float[Tensor, " batch"],
    features: Float[Tensor, "batch feature"],
    coefficients: Float[Tensor, " feature"],
) -> Float[Tensor, " batch"]:
    r""":math:`\log P = \log a + \sum_i \lambda_i \phi_i`: the nearest to the base with its moments.

    Source:
        Khalifa et al. 2021 (GDC), arXiv:2012.11635, sec. 2.
    """
    return widened(base_log_probs) + widened(features) @ coefficients.to(widened(features).dtype)


def between(
    reference_log_probs: Float[Tensor, " batch"],
    teacher_log_probs: Float[Tensor, " batch"],
    *,
    beta_reference: float,
    beta_teacher: float,
) -> Float[Tensor, " batch"]:
    r"""The base of daDPO's optimal policy, the geometric mean of reference and teacher.

    .. math:: \log a = \frac{\beta_1 \log \pi_{ref} + \beta_2 \log \pi_{te}}{\beta_1 + \beta_2}

    With `rewarded(..., beta=beta_1 + beta_2)` this is the target of which daDPO is the offline, pairwise loss. A term
    of weight 0 is not read.

    Raises:
        RecipeError: a beta is negative or not finite, or both are 0.

    Source:
        Zhang et al. 2025, arXiv:2506.15717, eq. 7-8, its exact form derived.
    """
    total = beta_reference + beta_teacher
    if not (beta_reference >= 0 and beta_teacher >= 0 and 0 < total < torch.inf):
        raise RecipeError(
            f"beta_reference is {beta_reference} and beta_teacher is {beta_teacher}",
            why="both must be finite and not negative, and their sum positive",
            fix="for example beta_reference=0.05 beta_teacher=0.05",
        )
    mean = torch.zeros_like(widened(reference_log_probs))
    for beta, log_probs in ((beta_reference, reference_log_probs), (beta_teacher, teacher_log_probs)):
        if beta > 0:
            mean = mean + beta / total * widened(log_probs)
    return mean


@dataclass(frozen=True)
class FittedTilt:
    """Coefficients, the moments that the sample has under them, and how many of its answers the weights are worth."""

    coefficients: Float[Tensor, " feature"]
    moments: Float[Tensor, " feature"]
    effective_share: float
    num_iterations: int


def tilted_moments(
    log_weights: Float[Tensor, " batch"],
    features: Float[Tensor, "batch feature"],
    group: Int[Tensor, " batch"],
    coefficients: Float[Tensor, " feature"],
) -> tuple[Float[Tensor, " feature"], Float[Tensor, "feature feature"], Float[Tensor, " batch"]]:
    """Self-normalised moments of the tilted target, the mean over prompts, with their slopes by the coefficients.

    Returns:
        The moments; their Jacobian, the mean over prompts of the features' covariance; the answers' weights, which
        sum to one for each prompt.
    """
    num_groups = int(group.max()) + 1
    exponent = log_weights + features @ coefficients
    most = exponent.new_full((num_groups,), -torch.inf).scatter_reduce(0, group, exponent, "amax")
    raw = (exponent - most[group]).exp()
    weights = raw / raw.new_zeros(num_groups).index_add(0, group, raw)[group]
    means = features.new_zeros(num_groups, features.shape[1]).index_add(0, group, weights[:, None] * features)
    centred = features - means[group]
    return means.mean(0), centred.T @ (weights[:, None] * centred) / num_groups, weights


def fit_tilt(
    log_weights: Float[Tensor, " batch"],
    features: Float[Tensor, "batch feature"],
    moments: Float[Tensor, " feature"],
    *,
    group: Int[Tensor, " batch"] | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 200,
) -> FittedTilt:
    r"""Coefficients by which the tilted target has the wanted moments, from one sample that is weighted, not redrawn.

    .. math:: \frac1C \sum_c \frac{\sum_{n \in c} w_n \phi_i(x_n)}{\sum_{n \in c} w_n} = \mu_i, \quad
              \log w_n = \log a(x_n) - \log q(x_n) + \sum_i \lambda_i \phi_i(x_n)

    Newton's method on the convex dual, steps cut at 2 and halved until the gap shrinks; all in float64, weights by
    their logs. Differs: the released code takes up to 1,000 plain gradient steps on raw exponentials, and pools the
    weights of all prompts; here they are normalised for each prompt, as those of the target that is trained toward.

    Args:
        log_weights: log a - log q of each answer, in nats; 0 where the base itself drew them.
        features: of each answer.
        moments: the wanted means.
        group: the prompt of each answer, numbered from 0 without gaps; None: one for all.
        tolerance: the largest gap that is left.
        max_iterations: of Newton's method.

    Raises:
        RecipeError: no weighting of this sample has these moments.
        TrainingError: the gap did not close in `max_iterations`.

    Source:
        Khalifa et al. 2021 (GDC), arXiv:2012.11635, sec. 2 and alg. 1; self-normalised importance sampling.
    """
    log_weights, features, moments = log_weights.double(), features.double(), moments.double()
    group = torch.zeros(len(log_weights), dtype=torch.int64) if group is None else group
    _require_reachable(features, moments, group)
    coefficients = torch.zeros_like(moments)
    found, slopes, weights = tilted_moments(log_weights, features, group, coefficients)
    for iteration in range(max_iterations):
        gap = moments - found
        if float(gap.abs().max()) <= tolerance:
            return FittedTilt(coefficients, found, _effective_share(weights, group), iteration)
        step = torch.linalg.lstsq(slopes + 1e-12 * torch.eye(len(gap), dtype=gap.dtype), gap[:, None]).solution[:, 0]
        step = step.clamp(-MAX_STEP, MAX_STEP)
        for _ in range(40):
            tried = (coefficients + step).clamp(-MAX_COEFFICIENT, MAX_COEFFICIENT)
            new = tilted_moments(log_weights, features, group, tried)
            if float((moments - new[0]).norm()) < float(gap.norm()):
                break
            step = step / 2
        else:
            break
        coefficients, (found, slopes, weights) = tried, new
    raise TrainingError(
        f"the target's moments stay at {_listed(found)} where {_listed(moments)} are wanted",
        why=f"after {iteration + 1} steps the coefficients {_listed(coefficients)} bring them no nearer on this sample",
        fix="ask for moments nearer to the base's, or draw more answers to each prompt for the fit",
    )


def _effective_share(weights: Tensor, group: Tensor) -> float:
    """The mean over prompts of 1 / (n sum w^2): the share of the answers that the weights leave."""
    num_groups = int(group.max()) + 1
    squares = weights.new_zeros(num_groups).index_add(0, group, weights**2)
    counts = weights.new_zeros(num_groups).index_add(0, group, torch.ones_like(weights))
    return float((1.0 / (counts * squares)).mean())


def _require_reachable(features: Tensor, moments: Tensor, group: Tensor) -> None:
    """Each prompt's mean lies between its least and its greatest feature, and so does the mean over prompts."""
    num_groups = int(group.max()) + 1
    shape = (num_groups, features.shape[1])
    index = group[:, None].expand_as(features)
    low = features.new_full(shape, torch.inf).scatter_reduce(0, index, features, "amin").mean(0)
    high = features.new_full(shape, -torch.inf).scatter_reduce(0, index, features, "amax").mean(0)
    for number in range(len(moments)):
        if not float(low[number]) < float(moments[number]) < float(high[number]):
            raise RecipeError(
                f"moment {number} is wanted to be {float(moments[number]):.4g}, and weighting the base's answers "
                f"reaches from {float(low[number]):.4g} to {float(high[number]):.4g}",
                why="the target only weighs answers that the base gives; both ends themselves need infinite weights",
                fix="ask for a moment between, draw more answers to each prompt for the fit, or, for a feature of 0 "
                "and 1 that is always to hold, make it a hard constraint",
            )


def _require_positive(name: str, value: float) -> None:
    if not 0.0 < value < torch.inf:
        raise RecipeError(f"{name} is {value}", why="it must be positive and finite", fix=f"for example {name}=0.1")


def _listed(values: Tensor) -> str:
    return ", ".join(f"{float(value):.4g}" for value in values)
