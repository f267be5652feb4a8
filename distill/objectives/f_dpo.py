"""f-DPO: the implicit reward of DPO where another divergence than reverse KL holds the policy to the reference."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from distill.errors import RecipeError

FDivergenceName = Literal["reverse_kl", "forward_kl", "jensen_shannon", "alpha"]

# e^80 is 5.5e34: the largest power of ten to spare before float32 ends at 3.4e38.
MAX_EXPONENT = 80.0
LOG_TWO = 0.6931471805599453


def f_dpo_reward(log_ratio: Float[Tensor, " batch"], name: str, *, alpha: float = 0.5) -> Float[Tensor, " batch"]:
    r"""The derivative f'(u) of the divergence's generator at u = policy / reference, from log u.

    ==============  ================================  =======================  ========
    name            f(u), up to a multiple of u - 1   f'(u), 0 at u = 1        at most
    ==============  ================================  =======================  ========
    reverse_kl      u log u                           log u                    +inf
    forward_kl      -log u                            1 - 1/u                  1
    jensen_shannon  u log u - (u+1) log((u+1)/2)      log(2u / (1 + u))        log 2
    alpha           (u^(1-a) - (1-a) u - a)/(a(a-1))  (1 - u^-a) / a           1 / a
    ==============  ================================  =======================  ========

    `alpha` spans the two KLs: a -> 0 is reverse_kl, a -> 1 forward_kl.

    Differs: exponents are cut at 80 (of forward_kl and alpha, which else leave float32 where the policy gives an
    answer less than e^-88 of the reference's probability); such an answer gets no gradient.

    Args:
        log_ratio: log(policy / reference) of whole answers, in nats.
        name: which divergence.
        alpha: a, between 0 and 1; read by `alpha` alone.

    Raises:
        RecipeError: there is no such divergence, or alpha is out of range.

    Source:
        Wang et al. 2023 (f-DPO), arXiv:2309.16240, thm. 1.
    """
    if name not in REWARDS:
        raise RecipeError(f"divergence {name!r} is not one of f-DPO's", fix=f"known: {', '.join(REWARDS)}")
    if name == "alpha" and not 0.0 < alpha < 1.0:
        raise RecipeError(
            f"alpha is {alpha}", why="alpha-divergences of f-DPO lie between the two KLs", fix="for example alpha=0.5"
        )
    return REWARDS[name](log_ratio, alpha)


def _reverse_kl(log_ratio: Tensor, alpha: float) -> Tensor:
    return log_ratio


def _forward_kl(log_ratio: Tensor, alpha: float) -> Tensor:
    return -torch.expm1((-log_ratio).clamp_max(MAX_EXPONENT))


def _jensen_shannon(log_ratio: Tensor, alpha: float) -> Tensor:
    return LOG_TWO + logsigmoid(log_ratio)


def _alpha(log_ratio: Tensor, alpha: float) -> Tensor:
    return -torch.expm1((-alpha * log_ratio).clamp_max(MAX_EXPONENT)) / alpha


REWARDS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "reverse_kl": _reverse_kl,
    "forward_kl": _forward_kl,
    "jensen_shannon": _jensen_shannon,
    "alpha": _alpha,
}
assert tuple(REWARDS) == get_args(FDivergenceName)
