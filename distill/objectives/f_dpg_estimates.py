"""How far models are from a target, and a policy from its base, by importance sampling from answers that one drew."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.numerics import widened


def kl_from_target(
    target_log_probs: Float[Tensor, " batch"],
    model_log_probs: Float[Tensor, " batch"],
    proposal_log_probs: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    r"""One term an answer of the estimate of KL(target || model), in nats; their mean is the estimate.

    .. math:: \frac{p}{q} \log\frac{p}{m} - \frac{p}{q} + \frac{m}{q}

    The last two terms are 0 on average and take away most of the spread, so that every term is non-negative.
    Answers that the target rules out leave their m/q. Differs: the released code has the first term only.

    Args:
        target_log_probs: normalised, as log P - log Z.
        model_log_probs: of the model that is compared with the target.
        proposal_log_probs: of the model that drew the answers; may be the same.
    """
    target, model, proposal = (widened(x) for x in (target_log_probs, model_log_probs, proposal_log_probs))
    ratio = (target - proposal).exp()
    first = torch.where(target == -torch.inf, 0.0, ratio * (target - model))
    return first - ratio + (model - proposal).exp()


def total_variation_to_target(
    target_log_probs: Float[Tensor, " batch"],
    model_log_probs: Float[Tensor, " batch"],
    proposal_log_probs: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    r"""The same of the total variation: :math:`\tfrac12 |m/q - p/q|`."""
    target, model, proposal = (widened(x) for x in (target_log_probs, model_log_probs, proposal_log_probs))
    return 0.5 * ((model - proposal).exp() - (target - proposal).exp()).abs()


def jensen_shannon_to_target(
    target_log_probs: Float[Tensor, " batch"],
    model_log_probs: Float[Tensor, " batch"],
    proposal_log_probs: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    r"""The same of the Jensen-Shannon divergence with equal weights, at most log 2.

    .. math:: \tfrac12 \frac{p}{q} \log\frac{p}{c} + \tfrac12 \frac{m}{q} \log\frac{m}{c}, \quad c = (p + m) / 2
    """
    target, model, proposal = (widened(x) for x in (target_log_probs, model_log_probs, proposal_log_probs))
    middle = torch.logaddexp(target, model) - math.log(2)
    total = torch.zeros_like(model)
    for one in (target, model):
        part = torch.where(one == -torch.inf, 0.0, (one - proposal).exp() * (one - middle))
        total = total + 0.5 * part
    return total


def kl_between(
    policy_log_probs: Float[Tensor, " batch"],
    base_log_probs: Float[Tensor, " batch"],
    proposal_log_probs: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """The same of KL(policy || base), in nats: what is given up of the base."""
    return kl_from_target(policy_log_probs, base_log_probs, proposal_log_probs)


def entropy_terms(
    policy_log_probs: Float[Tensor, " batch"], proposal_log_probs: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """One term an answer of the estimate of the policy's entropy over whole answers, in nats."""
    policy, proposal = widened(policy_log_probs), widened(proposal_log_probs)
    return -(policy - proposal).exp() * policy


def grouped_log_mean(
    log_values: Float[Tensor, " batch"], group: Int[Tensor, " batch"], num_groups: int
) -> Float[Tensor, " groups"]:
    """log of the mean of e^value for each group, without leaving the range; -inf where all are."""
    values = widened(log_values)
    most = values.new_full((num_groups,), -torch.inf).scatter_reduce(0, group, values, "amax")
    floor = torch.where(most == -torch.inf, 0.0, most)
    sums = values.new_zeros(num_groups).index_add(0, group, (values - floor[group]).exp())
    counts = values.new_zeros(num_groups).index_add(0, group, torch.ones_like(values))
    return sums.log() + floor - counts.log()
