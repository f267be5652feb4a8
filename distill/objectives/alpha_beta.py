"""The alpha-beta divergence: two powers that span forward KL, reverse KL and what lies between and beyond."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.errors import RecipeError
from distill.numerics import widened

SMALL_POWER = 1e-3
"""Where neither power is larger, both halves of a term are its log ratio, and their difference is lost in float32."""


def alpha_beta(
    teacher_log_probs: Float[Tensor, "*positions vocab"],
    student_log_probs: Float[Tensor, "*positions vocab"],
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
) -> Float[Tensor, "*positions"]:
    r"""The alpha-beta divergence, with s = alpha + beta.

    .. math:: -\frac1{\alpha\beta} \sum_v \left[ p^\alpha q^\beta - \frac\alpha s p^s - \frac\beta s q^s \right]

    (1, 0) is forward KL, (0, 1) reverse KL, (1/2, 1/2) is :math:`2 \sum (\sqrt p - \sqrt q)^2` and (0, 0) is
    :math:`\tfrac12 \sum (\log q - \log p)^2`; wherever alpha, beta or s is zero the limit is taken. With
    :math:`d = \log q - \log p` and :math:`\varphi_c = (e^{cd} - 1)/c` each term equals
    :math:`p^s (\varphi_s - \varphi_\beta) / \alpha`, which needs no cancelling of large numbers as beta or s
    approaches zero; where alpha is the smaller, the same with the roles exchanged. Where both are below 1e-3, that
    is :math:`p^s (d^2 / 2 + (s + \beta) d^3 / 6)` but for a share of some :math:`(\alpha d)^2 / 4`.

    Args:
        alpha: power of the teacher's probability.
        beta: power of the student's probability.

    Source:
        Wang et al. 2025 (ABKD), arXiv:2505.04560, def. 3.1; limits: Cichocki, Cruces & Amari 2011,
        Entropy 13(1), eq. 10.
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not math.isfinite(value):
            raise RecipeError(f"alpha_beta: {name} is {value}", why="a power is a finite number", fix=f"{name}=0.5")
    teacher, student = widened(teacher_log_probs.detach()), widened(student_log_probs)
    both = (teacher > -torch.inf) & (student > -torch.inf)
    safe_teacher, safe_student = torch.where(both, teacher, 0.0), torch.where(both, student, 0.0)
    if abs(alpha) >= abs(beta):
        terms = _terms(safe_teacher, safe_student, alpha=alpha, beta=beta)
    else:
        terms = _terms(safe_student, safe_teacher, alpha=beta, beta=alpha)
    lonely_teacher = _edge(teacher, own=beta, other=alpha, only=(teacher > -torch.inf) & ~both)
    lonely_student = _edge(student, own=alpha, other=beta, only=(student > -torch.inf) & ~both)
    return (torch.where(both, terms, 0.0) + lonely_teacher + lonely_student).sum(-1)


def _terms(
    log_p: Float[Tensor, "*positions vocab"], log_q: Float[Tensor, "*positions vocab"], *, alpha: float, beta: float
) -> Float[Tensor, "*positions vocab"]:
    """The terms of `alpha_beta` where both are possible and |alpha| >= |beta|."""
    log_ratio = log_q - log_p
    total = alpha + beta
    if abs(alpha) < SMALL_POWER:
        return (total * log_p).exp() * log_ratio.square() * (0.5 + (total + beta) / 6.0 * log_ratio)
    return (total * log_p).exp() * (_phi(log_ratio, total) - _phi(log_ratio, beta)) / alpha


def _phi(log_ratio: Float[Tensor, "*positions vocab"], power: float) -> Float[Tensor, "*positions vocab"]:
    return log_ratio if power == 0.0 else torch.expm1(power * log_ratio) / power


def _edge(
    log_probs: Float[Tensor, "*positions vocab"], *, own: float, other: float, only: Bool[Tensor, "*positions vocab"]
) -> Float[Tensor, "*positions vocab"]:
    """The limit of a term of `alpha_beta` where the other distribution rules the token out.

    As q falls to 0 the term becomes p^s / (beta s) when beta and s are positive (`own` is beta then), else +inf.
    """
    total = own + other
    if own <= 0.0 or total <= 0.0:
        return torch.where(only, torch.inf, torch.zeros_like(log_probs))
    return torch.where(only, (total * torch.where(only, log_probs, 0.0)).exp() / (own * total), 0.0)
