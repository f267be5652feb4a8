"""Divergences between two full next-token distributions, one value per position, in nats where a log is taken.

Every function takes log-probs that are normalised over the last axis. The teacher's carry no gradient. A token
that both distributions rule out (two log-probs of -inf, as in a padded vocabulary) contributes zero and no
gradient; a token that only one of them rules out contributes its limit, which may be +inf. In the KLs a probability
that its dtype cannot tell from zero (below e^-87 in float32) is ruled out.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import RecipeError
from distill.numerics import widened
from distill.objectives.alpha_beta import alpha_beta

DivergenceName = Literal[
    "forward_kl",
    "reverse_kl",
    "jensen_shannon",
    "total_variation",
    "chi_squared",
    "reverse_chi_squared",
    "skew_kl",
    "skew_reverse_kl",
    "alpha_beta",
]


def forward_kl(
    teacher_log_probs: Float[Tensor, "*positions vocab"], student_log_probs: Float[Tensor, "*positions vocab"]
) -> Float[Tensor, "*positions"]:
    r"""KL(teacher || student).

    .. math:: \sum_v p(v) \, (\log p(v) - \log q(v))

    Tokens the teacher rules out contribute zero, by 0 log 0 = 0. A token that only the student rules out makes
    the result +inf, as it should.

    Source:
        Kullback & Leibler 1951; for distillation, Hinton et al. 2015, arXiv:1503.02531, sec. 2.
    """
    teacher, student = _detached_and_widened(teacher_log_probs, student_log_probs)
    return _kl(teacher, student)


def reverse_kl(
    teacher_log_probs: Float[Tensor, "*positions vocab"], student_log_probs: Float[Tensor, "*positions vocab"]
) -> Float[Tensor, "*positions"]:
    r"""KL(student || teacher).

    .. math:: \sum_v q(v) \, (\log q(v) - \log p(v))

    +inf where the student allows a token that the teacher rules out; there the gradient is not finite either.

    Source:
        for distillation, Gu et al. 2023 (MiniLLM), arXiv:2306.08543, sec. 2.1; here exact, per token.
    """
    teacher, student = _detached_and_widened(teacher_log_probs, student_log_probs)
    return _kl(student, teacher)


def jensen_shannon(
    teacher_log_probs: Float[Tensor, "*positions vocab"],
    student_log_probs: Float[Tensor, "*positions vocab"],
    *,
    beta: float = 0.5,
) -> Float[Tensor, "*positions"]:
    r"""GKD's generalised Jensen-Shannon divergence, with the mixture :math:`m = \beta p + (1 - \beta) q`.

    .. math:: \beta \, KL(p \| m) + (1 - \beta) \, KL(q \| m)

    By GKD's convention `beta=0` is forward_kl and `beta=1` is reverse_kl. Those ends are no limits: the divergence
    itself falls to zero in proportion to beta, so the scale jumps there.

    Args:
        beta: the teacher's share of the mixture, from 0 to 1.

    Source:
        Agarwal et al. 2024 (GKD), arXiv:2306.13649, sec. 2.
    """
    _require_share("jensen_shannon", "beta", beta)
    if beta == 0.0:
        return forward_kl(teacher_log_probs, student_log_probs)
    if beta == 1.0:
        return reverse_kl(teacher_log_probs, student_log_probs)
    teacher, student = _detached_and_widened(teacher_log_probs, student_log_probs)
    mixture = _log_mixture(teacher, student, share=beta)
    return beta * _kl(teacher, mixture) + (1.0 - beta) * _kl(student, mixture)


def total_variation(
    teacher_log_probs: Float[Tensor, "*positions vocab"], student_log_probs: Float[Tensor, "*positions vocab"]
) -> Float[Tensor, "*positions"]:
    r"""Half the L1 distance, from 0 to 1.

    .. math:: \tfrac12 \sum_v |p(v) - q(v)|

    Where p(v) = q(v) the gradient used is zero, one of the subgradients.
    """
    teacher, student = _detached_and_widened(teacher_log_probs, student_log_probs)
    return 0.5 * (teacher.exp() - student.exp()).abs().sum(-1)


def chi_squared(
    teacher_log_probs: Float[Tensor, "*positions vocab"], student_log_probs: Float[Tensor, "*positions vocab"]
) -> Float[Tensor, "*positions"]:
    r"""Pearson's chi-squared of the teacher from the student.

    .. math:: \sum_v (p(v) - q(v))^2 / q(v)

    +inf where the student rules out a token that the teacher allows.
    """
    teacher, student = _detached_and_widened(teacher_log_probs, student_log_probs)
    return _pearson(teacher, student)


def reverse_chi_squared(
    teacher_log_probs: Float[Tensor, "*positions vocab"], student_log_probs: Float[Tensor, "*positions vocab"]
) -> Float[Tensor, "*positions"]:
    r"""Pearson's chi-squared of the student from the teacher (Neyman's of the teacher from the student).

    .. math:: \sum_v (p(v) - q(v))^2 / p(v)

    +inf where the student allows a token that the teacher rules out.
    """
    teacher, student = _detached_and_widened(teacher_log_probs, student_log_probs)
    return _pearson(student, teacher)


def skew_kl(
    teacher_log_probs: Float[Tensor, "*positions vocab"],
    student_log_probs: Float[Tensor, "*positions vocab"],
    *,
    alpha: float = 0.1,
) -> Float[Tensor, "*positions"]:
    r"""KL of the teacher from a mixture of teacher and student.

    .. math:: KL(p \,\|\, \alpha p + (1 - \alpha) q)

    `alpha=0` is forward_kl. Finite, at most :math:`-\log\alpha`, even where the student rules a token out.

    Args:
        alpha: the teacher's share of the mixture, from 0 to below 1.

    Source:
        Ko et al. 2024 (DistiLLM), arXiv:2402.03898, sec. 3.1.
    """
    _require_share("skew_kl", "alpha", alpha, below_one=True)
    if alpha == 0.0:
        return forward_kl(teacher_log_probs, student_log_probs)
    teacher, student = _detached_and_widened(teacher_log_probs, student_log_probs)
    return _kl(teacher, _log_mixture(teacher, student, share=alpha))


def skew_reverse_kl(
    teacher_log_probs: Float[Tensor, "*positions vocab"],
    student_log_probs: Float[Tensor, "*positions vocab"],
    *,
    alpha: float = 0.1,
) -> Float[Tensor, "*positions"]:
    r"""KL of the student from a mixture of student and teacher.

    .. math:: KL(q \,\|\, (1 - \alpha) p + \alpha q)

    `alpha=0` is reverse_kl. Finite, at most :math:`-\log\alpha`, even where the teacher rules a token out.
    Differs: the gradient is the whole one; DistiLLM-2's released code detaches the student inside the mixture.

    Args:
        alpha: the student's share of the mixture, from 0 to below 1.

    Source:
        Ko et al. 2024 (DistiLLM), arXiv:2402.03898, sec. 3.1.
    """
    _require_share("skew_reverse_kl", "alpha", alpha, below_one=True)
    if alpha == 0.0:
        return reverse_kl(teacher_log_probs, student_log_probs)
    teacher, student = _detached_and_widened(teacher_log_probs, student_log_probs)
    return _kl(student, _log_mixture(student, teacher, share=alpha))


@dataclass(frozen=True)
class Divergence:
    """A row of the table: the function and the names of its parameters."""

    function: Callable[..., Tensor]
    parameters: tuple[str, ...] = ()


DIVERGENCES: dict[str, Divergence] = {
    "forward_kl": Divergence(forward_kl),
    "reverse_kl": Divergence(reverse_kl),
    "jensen_shannon": Divergence(jensen_shannon, ("beta",)),
    "total_variation": Divergence(total_variation),
    "chi_squared": Divergence(chi_squared),
    "reverse_chi_squared": Divergence(reverse_chi_squared),
    "skew_kl": Divergence(skew_kl, ("alpha",)),
    "skew_reverse_kl": Divergence(skew_reverse_kl, ("alpha",)),
    "alpha_beta": Divergence(alpha_beta, ("alpha", "beta")),
}
assert tuple(DIVERGENCES) == get_args(DivergenceName)


def divergence(
    name: str,
    teacher_log_probs: Float[Tensor, "*positions vocab"],
    student_log_probs: Float[Tensor, "*positions vocab"],
    **parameters: float,
) -> Float[Tensor, "*positions"]:
    """The divergence called `name`, one value per position, neither masked nor averaged.

    Args:
        name: a key of `DIVERGENCES`.
        teacher_log_probs: normalised over vocab; carries no gradient.
        student_log_probs: normalised over vocab.
        parameters: the named divergence's own, such as `beta` of jensen_shannon.

    Raises:
        RecipeError: there is no such divergence, it has no such parameter, or the value is out of range.
    """
    return named_divergence(name, **parameters)(teacher_log_probs, student_log_probs)


def named_divergence(name: str, **parameters: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The divergence called `name` with its parameters bound, checked before any tensor is at hand.

    Raises:
        RecipeError: there is no such divergence, it has no such parameter, or the value is out of range.
    """
    if name not in DIVERGENCES:
        raise RecipeError(f"divergence {name!r} is not known", fix=_suggestion(name, list(DIVERGENCES)))
    row = DIVERGENCES[name]
    for parameter in parameters:
        if parameter not in row.parameters:
            fix = _suggestion(parameter, list(row.parameters)) if row.parameters else f"leave {parameter} out"
            raise RecipeError(f"divergence {name} has no parameter {parameter!r}", fix=fix)
    one_token = torch.zeros(1)
    row.function(one_token, one_token, **parameters)
    return lambda teacher_log_probs, student_log_probs: row.function(teacher_log_probs, student_log_probs, **parameters)


def _suggestion(wrong: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(known)}"


def _require_share(name: str, parameter: str, value: float, *, below_one: bool = False) -> None:
    if not (0.0 <= value < 1.0 or (value == 1.0 and not below_one)):
        bound = "at least 0 and below 1" if below_one else "from 0 to 1"
        raise RecipeError(f"{name}: {parameter} is {value}", why=f"a share of a mixture is {bound}")


def _detached_and_widened(teacher_log_probs: Tensor, student_log_probs: Tensor) -> tuple[Tensor, Tensor]:
    return widened(teacher_log_probs.detach()), widened(student_log_probs)


def _kl(
    log_p: Float[Tensor, "*positions vocab"], log_q: Float[Tensor, "*positions vocab"]
) -> Float[Tensor, "*positions"]:
    """Sum of p (log p - log q), with 0 log 0 = 0 in the value and in the gradient.

    A p below the smallest normal number of its dtype (e^-87 in float32) is 0: times an infinite log it would be nan.
    """
    impossible = log_p < math.log(torch.finfo(log_p.dtype).tiny)
    log_p = torch.where(impossible, 0.0, log_p)
    terms = log_p.exp() * (log_p - torch.where(impossible, 0.0, log_q))
    return torch.where(impossible, 0.0, terms).sum(-1)


def _log_mixture(
    log_p: Float[Tensor, "*positions vocab"], log_q: Float[Tensor, "*positions vocab"], *, share: float
) -> Float[Tensor, "*positions vocab"]:
    """log(share p + (1 - share) q), -inf where both are ruled out."""
    impossible = (log_p == -torch.inf) & (log_q == -torch.inf)
    log_p, log_q = torch.where(impossible, 0.0, log_p), torch.where(impossible, 0.0, log_q)
    return torch.where(impossible, -torch.inf, torch.logaddexp(log_p + math.log(share), log_q + math.log1p(-share)))


def _pearson(
    log_p: Float[Tensor, "*positions vocab"], log_q: Float[Tensor, "*positions vocab"]
) -> Float[Tensor, "*positions"]:
    """Sum of (p - q)^2 / q, as q e^(2 max(d, 0)) (1 - e^-|d|)^2 with d = log p - log q: no early overflow."""
    infinite = (log_q == -torch.inf) & (log_p > -torch.inf)
    possible = log_q > -torch.inf
    log_q = torch.where(possible, log_q, 0.0)
    log_ratio = torch.where(possible, log_p, 0.0) - log_q
    terms = (log_q + 2.0 * log_ratio.clamp_min(0.0)).exp() * torch.expm1(-log_ratio.abs()).square()
    return torch.where(infinite, torch.inf, torch.where(possible, terms, 0.0)).sum(-1)
