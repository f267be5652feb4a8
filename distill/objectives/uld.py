"""Universal logit distillation: sorted probabilities are compared, so that vocabularies may differ."""

import torch
from jaxtyping import Float
from torch import Tensor

from distill.numerics import widened
from distill.objectives.terms import TopKRows


def uld(
    teacher_log_probs: Float[Tensor, "*positions teacher_vocab"],
    student_log_probs: Float[Tensor, "*positions student_vocab"],
) -> Float[Tensor, "*positions"]:
    r"""The L1 distance of the two lists of probabilities, each sorted from the likeliest on.

    .. math:: \sum_i | p_{(i)} - q_{(i)} |

    The shorter list goes on with zeros. From 0 to 2, and 0 of distributions that differ by a renaming of tokens
    only. Where two sorted probabilities are equal the gradient used is zero, one of the subgradients.

    Args:
        teacher_log_probs: normalised over the teacher's vocabulary; carries no gradient.
        student_log_probs: normalised over the student's.

    Source:
        Boizard et al. 2024 (ULD), arXiv:2402.12030. The paper adds 1.5 times its mean over tokens to the
        cross-entropy: `kd` with divergence uld and nll_weight 0.667 is two thirds of that.
    """
    width = max(teacher_log_probs.shape[-1], student_log_probs.shape[-1])
    teacher = _sorted_probs(teacher_log_probs.detach(), width)
    return (teacher - _sorted_probs(student_log_probs, width)).abs().sum(-1)


def top_k_uld(student_log_probs: Float[Tensor, "tokens vocab"], rows: TopKRows) -> Float[Tensor, " tokens"]:
    r"""The same where of the teacher its k likeliest tokens are known.

    .. math:: \sum_{i \le k} | p_{(i)} - q_{(i)} | + \left| p_g - q_g \right|

    with the mass that is left after the k likeliest, the teacher's and the student's. By the triangle inequality a
    lower bound of `uld`, off by at most twice the smaller of the two masses.

    Source:
        as `uld`. Differs: cut to the k likeliest, with what is left as one; ours.
    """
    probs = widened(student_log_probs).exp()
    k = rows.log_probs.shape[-1]
    likeliest = probs.topk(min(k, probs.shape[-1]), dim=-1).values
    listed = torch.nn.functional.pad(likeliest, (0, k - likeliest.shape[-1]))
    teacher = widened(rows.log_probs.detach()).exp()
    total = teacher.sum(-1, keepdim=True) + widened(rows.tail_mass.detach()).unsqueeze(-1)
    teacher = teacher / total
    left = (1.0 - teacher.sum(-1)) - (1.0 - listed.sum(-1))
    return (teacher - listed).abs().sum(-1) + left.abs()


def _sorted_probs(log_probs: Tensor, width: int) -> Tensor:
    probs = widened(log_probs).exp().sort(dim=-1, descending=True).values
    return torch.nn.functional.pad(probs, (0, width - probs.shape[-1]))
