"""Generators of f-divergences and the pseudo-rewards of f-DPG, all by log t = log(policy / target)."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from distill.errors import RecipeError
from distill.numerics import widened

FDpgDivergence = Literal[
    "forward_kl",
    "reverse_kl",
    "jensen_shannon",
    "total_variation",
    "chi_squared",
    "reverse_chi_squared",
    "alpha",
]

# e^80 is 5.5e34: the largest power of ten to spare before float32 ends at 3.4e38.
MAX_EXPONENT = 80.0


@dataclass(frozen=True)
class FGenerator:
    """A convex f with f(1) = 0 and its slope, both as functions of log t and alpha.

    `bears_zeros` says whether f' stays finite where the target rules an answer out (log t = +inf).
    """

    value: Callable[[Tensor, float], Tensor]
    slope: Callable[[Tensor, float], Tensor]
    bears_zeros: bool


def f_value(log_ratio: Float[Tensor, "*any"], name: str, *, alpha: float = 0.5) -> Float[Tensor, "*any"]:
    r"""The generator f(t) of :math:`D_f(\pi \| p) = E_{x \sim p}[f(\pi(x) / p(x))]`, from log t.

    ===================  ==================================  ===================  =========================
    name                 f(t)                                D_f                  f'(t)
    ===================  ==================================  ===================  =========================
    forward_kl           -log t                              KL(p || policy)      -1/t
    reverse_kl           t log t                             KL(policy || p)      log t + 1
    jensen_shannon       t log t - (t+1) log((t+1)/2)        2 JS(policy, p)      log(2t / (1+t))
    total_variation      \|t - 1\| / 2                       TV(policy, p)        sign(t - 1) / 2
    chi_squared          (1 - t)^2 / t                       chi2(p || policy)    1 - 1/t^2
    reverse_chi_squared  (t - 1)^2                           chi2(policy || p)    2 (t - 1)
    alpha                t - 1 - (t^a - 1)/a                 (1 - a) D_a          1 - t^(a-1)
    ===================  ==================================  ===================  =========================

    `jensen_shannon` is KL(policy || m) + KL(p || m) with m their mean: twice the usual divergence of equal weights.
    `alpha`, between 0 and 1, becomes forward_kl as a -> 0, and (1 - a) times reverse_kl as a -> 1; the factor that
    would make the second end whole, 1 / (1 - a), is left out as in the source, where it is a matter of the learning
    rate. Exponents are cut at 80.

    Args:
        log_ratio: log(policy / target) of whole answers, in nats; the target normalised.
        name: which divergence.
        alpha: a; read by `alpha` alone.

    Raises:
        RecipeError: there is no such divergence, or alpha is out of range.

    Source:
        Go et al. 2023 (f-DPG), arXiv:2302.08215, sec. 3; alpha: "Whatever Remains Must Be True", arXiv:2512.05962.
    """
    return f_generator(name, alpha=alpha).value(widened(log_ratio), alpha)


def pseudo_reward(
    log_ratio: Float[Tensor, "*any"], name: str, *, alpha: float = 0.5, max_reward: float | None = None
) -> Float[Tensor, "*any"]:
    r"""What f-DPG pays for an answer: :math:`-f'(\pi(x) / p(x))`, from log t.

    Where the target rules an answer out (log t = +inf) that is 0 for forward_kl, -log 2 for jensen_shannon, -1/2 for
    total_variation, -1 for chi_squared and alpha, and -inf for reverse_kl and reverse_chi_squared.

    Args:
        log_ratio: log(policy / target) of whole answers, in nats; the target normalised. Carries no gradient.
        name: which divergence.
        alpha: of `alpha`.
        max_reward: rewards above it are cut to it; None: none is. A cut makes the gradient that of no divergence.

    Raises:
        RecipeError: there is no such divergence, or alpha is out of range.

    Source:
        Go et al. 2023 (f-DPG), arXiv:2302.08215, thm. 1.
    """
    reward = -f_generator(name, alpha=alpha).slope(widened(log_ratio.detach()), alpha)
    return reward if max_reward is None else reward.clamp_max(max_reward)


def f_generator(name: str, *, alpha: float = 0.5) -> FGenerator:
    """The row called `name`.

    Raises:
        RecipeError: there is none, or alpha is out of range for `alpha`.
    """
    if name not in GENERATORS:
        nearest = difflib.get_close_matches(name, GENERATORS, n=1, cutoff=0.5)
        raise RecipeError(
            f"divergence {name!r} is not one of f-DPG's",
            fix=f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(GENERATORS)}",
        )
    if name == "alpha" and not 0.0 < alpha < 1.0:
        raise RecipeError(
            f"alpha is {alpha}", why="alpha-divergences of f-DPG lie between the two KLs", fix="for example alpha=0.5"
        )
    return GENERATORS[name]


def _exp(exponent: Tensor) -> Tensor:
    return exponent.clamp_max(MAX_EXPONENT).exp()


def _t_log_t(log_t: Tensor) -> Tensor:
    """By 0 log 0 = 0."""
    return torch.where(log_t == -torch.inf, 0.0, _exp(log_t) * log_t)


def _jensen_shannon(log_t: Tensor, alpha: float) -> Tensor:
    # log((1 + t) / 2), without leaving the range where t is huge or nothing.
    log_mean = torch.where(log_t == -torch.inf, 0.0, softplus(log_t)) - math.log(2)
    return _t_log_t(log_t) - (1.0 + _exp(log_t)) * log_mean


def _chi_squared(log_t: Tensor, alpha: float) -> Tensor:
    return _exp(-log_t) - 2.0 + _exp(log_t)


def _alpha(log_t: Tensor, alpha: float) -> Tensor:
    return torch.expm1(log_t.clamp_max(MAX_EXPONENT)) - torch.expm1((alpha * log_t).clamp_max(MAX_EXPONENT)) / alpha


GENERATORS: dict[str, FGenerator] = {
    "forward_kl": FGenerator(lambda log_t, _: -log_t, lambda log_t, _: -_exp(-log_t), bears_zeros=True),
    "reverse_kl": FGenerator(lambda log_t, _: _t_log_t(log_t), lambda log_t, _: log_t + 1.0, bears_zeros=False),
    "jensen_shannon": FGenerator(_jensen_shannon, lambda log_t, _: math.log(2) - softplus(-log_t), bears_zeros=True),
    "total_variation": FGenerator(
        lambda log_t, _: 0.5 * torch.expm1(log_t.clamp_max(MAX_EXPONENT)).abs(),
        lambda log_t, _: 0.5 * torch.sign(log_t),
        bears_zeros=True,
    ),
    "chi_squared": FGenerator(
        _chi_squared, lambda log_t, _: -torch.expm1((-2.0 * log_t).clamp_max(MAX_EXPONENT)), bears_zeros=True
    ),
    "reverse_chi_squared": FGenerator(
        lambda log_t, _: torch.expm1(log_t.clamp_max(MAX_EXPONENT / 2)) ** 2,
        lambda log_t, _: torch.where(log_t == torch.inf, torch.inf, 2.0 * torch.expm1(log_t.clamp_max(MAX_EXPONENT))),
        bears_zeros=False,
    ),
    "alpha": FGenerator(
        _alpha,
        lambda log_t, alpha: -torch.expm1(((alpha - 1.0) * log_t).clamp_max(MAX_EXPONENT)),
        bears_zeros=True,
    ),
}
assert tuple(GENERATORS) == get_args(FDpgDivergence)
