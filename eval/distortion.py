"""How far a stored distribution is from the teacher's: per token, and as the gradient that a student would get."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.numerics import log_softmax


@dataclass(frozen=True)
class Distortion:
    """One value a token. KLs in nats, infinite where the stored distribution rules out what the teacher does not."""

    kl_nats: Float[Tensor, " tokens"]
    total_variation: Float[Tensor, " tokens"]
    is_top_1_equal: Tensor


def distortion(
    teacher_log_probs: Float[Tensor, "tokens vocab"], stored_log_probs: Float[Tensor, "tokens vocab"]
) -> Distortion:
    r"""KL(teacher || stored), total variation and agreement of the likeliest token, in float64.

    .. math:: \sum_v p_T(v) (\log p_T(v) - \log p_S(v)) \qquad \frac{1}{2} \sum_v |p_T(v) - p_S(v)|

    Both are normalised anew in float64, so that rounding of a float32 normaliser does not pass for a distance.
    """
    teacher, stored = log_softmax(teacher_log_probs.double()), log_softmax(stored_log_probs.double())
    probs = teacher.exp()
    terms = torch.where(probs == 0, 0.0, probs * (teacher - stored))
    return Distortion(
        kl_nats=terms.sum(-1).clamp_min(0.0),
        total_variation=(probs - stored.exp()).abs().sum(-1) / 2,
        is_top_1_equal=teacher.argmax(-1) == stored.argmax(-1),
    )


def head_gradient(
    student_log_probs: Float[Tensor, "tokens vocab"],
    stored_log_probs: Float[Tensor, "tokens vocab"],
    student_hidden_states: Float[Tensor, "tokens hidden"],
) -> Float[Tensor, "vocab hidden"]:
    r"""Gradient of the summed cross-entropy to the stored distribution with respect to the student's head.

    .. math:: \sum_t (q_t - p_t) h_t^\top
    """
    return (student_log_probs.exp() - log_softmax(stored_log_probs).exp()).mT @ student_hidden_states


def angle_degrees(first: Tensor, second: Tensor) -> float:
    """The angle between two gradients."""
    # float32 sums over millions of products lose the small angles; 2 atan2 keeps them where acos does not.
    a, b = first.flatten().double(), second.flatten().double()
    a, b = a / a.norm(), b / b.norm()
    return float(torch.rad2deg(2 * torch.atan2((a - b).norm(), (a + b).norm())))
