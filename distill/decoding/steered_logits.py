"""Linear Alignment as formulas: the steering direction, the closed form under a budget, and the nucleus that bounds it.

Here `principled` are logits of a model that reads a principle before the dialogue, `plain` those of the same model
without it, both after the same tokens of the answer.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from distill.numerics import log_softmax, widened

FIRST_LOOK = 64
"""Likeliest tokens among which a nucleus is looked for before all are sorted."""

ROUNDING_NATS = 1e-5
"""A smaller difference of two log-probs is rounding; a step of fixed size would make it as large as any other."""


def amplified_logits(
    principled: Float[Tensor, "*positions vocab"], plain: Float[Tensor, "*positions vocab"], *, ratio: float
) -> Float[Tensor, "*positions vocab"]:
    r"""Logits moved on by `ratio` times what the principle changed.

    .. math:: z^* = z_{in} + r\,(z_{in} - z_{out}), \qquad \pi^* \propto \pi_{in}^{1+r}\, \pi_{out}^{-r}

    A constant added to either row changes nothing after a softmax. Where both are -inf, a token that the model cannot
    say, so is the result.

    Args:
        principled: z_in.
        plain: z_out.
        ratio: 0 leaves z_in as it is.

    Source:
        Gao et al. 2024, arXiv:2401.11458, as in the authors' model.py (commit a593ce6): classifier-free guidance of
        scale 1 + ratio.
    """
    principled, plain = widened(principled), widened(plain)
    is_ruled_out = principled == -torch.inf
    return principled + ratio * torch.where(is_ruled_out, 0.0, principled - plain)


def steepest_step(
    direction: Float[Tensor, "*positions vocab"], *, budget: float, order: float = 2.0
) -> Float[Tensor, "*positions vocab"]:
    r"""The step of p-norm `budget` along which a linear value rises most.

    .. math:: \arg\max_{\|D\|_p \le \epsilon} \langle g, D \rangle
        = \epsilon\, \frac{\operatorname{sign}(g_i)\, |g_i|^{q-1}}{\|g\|_q^{q/p}}, \qquad 1/p + 1/q = 1

    The value reached is :math:`\epsilon \|g\|_q` (Hoelder). A direction of zeros gives no step.

    Args:
        direction: g; finite.
        budget: epsilon.
        order: p, above 1; 2 gives the direction scaled to length epsilon.

    Source:
        Derived from the abstract of Gao et al. 2024, arXiv:2401.11458 ("policy optimization under divergence
        constraints ... closed-form"); the paper's own norm is not known to us.
    """
    direction = widened(direction)
    dual = order / (order - 1.0)
    # Scaled to a largest entry of 1, so that no power runs over or under.
    largest = direction.abs().amax(-1, keepdim=True)
    is_zero = largest == 0
    scaled = direction / torch.where(is_zero, 1.0, largest)
    norm = (scaled.abs() ** dual).sum(-1, keepdim=True) ** (1.0 / dual)
    step = scaled.sign() * scaled.abs() ** (dual - 1.0) / torch.where(is_zero, 1.0, norm) ** (dual / order)
    return budget * torch.where(is_zero, 0.0, step)


def budgeted_logits(
    principled: Float[Tensor, "*positions vocab"],
    plain: Float[Tensor, "*positions vocab"],
    *,
    within: Bool[Tensor, "*positions vocab"],
    budget: float,
    order: float = 2.0,
) -> Float[Tensor, "*positions vocab"]:
    r"""Logits moved by a step of fixed size toward what the principle favours.

    .. math:: z^* = z_{in} + D(g), \qquad g = \log \pi_{in} - \log \pi_{out} \text{ in the nucleus, else } 0

    Differs: the direction is a difference of log-probs, not of logits, since a constant added to logits means nothing
    and must not turn the step; differences below `ROUNDING_NATS` count as none; and the budget is spent inside the
    nucleus, outside of which no token is chosen.

    Args:
        principled: z_in.
        plain: z_out; finite where `within` holds.
        within: the nucleus.
        budget: size of the step, by its p-norm.
        order: p, above 1.
    """
    change = log_softmax(principled) - log_softmax(plain)
    direction = torch.where(within & (change.abs() > ROUNDING_NATS), change, 0.0)
    return widened(principled) + steepest_step(direction, budget=budget, order=order)


def nucleus(logits: Float[Tensor, "batch vocab"], *, top_p: float) -> Bool[Tensor, "batch vocab"]:
    """The likeliest tokens, each kept while the mass before it is below `top_p`: the likeliest always.

    Of equally likely tokens the lower ids come first, as in a stable sort. Most rows need few tokens: all are sorted
    only where `FIRST_LOOK` of them do not reach the mass.

    Args:
        logits: unnormalised, already divided by the temperature.
        top_p: mass to reach; 1 keeps every token that can be said.
    """
    probs = torch.softmax(widened(logits), dim=-1)
    if top_p >= 1:
        return probs > 0
    ordered = probs.topk(min(FIRST_LOOK, probs.shape[-1]), dim=-1).values
    if bool((ordered.sum(-1) < top_p).any()):
        ordered = probs.sort(dim=-1, descending=True).values
    num_kept = (ordered.cumsum(-1) - ordered < top_p).sum(-1, keepdim=True)
    lowest = ordered.gather(-1, num_kept - 1)
    is_tied = probs == lowest
    num_ties_kept = num_kept - (probs > lowest).sum(-1, keepdim=True)
    return (probs > lowest) | (is_tied & (is_tied.cumsum(-1) <= num_ties_kept))
