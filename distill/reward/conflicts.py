"""EBRM's conflict-aware filter: a pair that the base model ranks against its label teaches no energy."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def ranked_as_labelled(
    chosen_rewards: Float[Tensor, " pairs"], rejected_rewards: Float[Tensor, " pairs"]
) -> Bool[Tensor, " pairs"]:
    """The pairs whose chosen answer has the strictly higher base reward; equal rewards conflict too.

    Source:
        Lochab & Zhang 2025, arXiv:2504.13134, conflict-aware filtering; the released `filterdata.py`.
    """
    return chosen_rewards > rejected_rewards


def kept_answers(
    states: Float[Tensor, "answers hidden"], rewards: Float[Tensor, " answers"]
) -> tuple[Float[Tensor, "kept hidden"], Float[Tensor, " kept"]]:
    """States and rewards of both answers of each pair that the filter keeps, each an example of its own.

    Args:
        states: of the chosen answers of all pairs, then of the rejected ones.
        rewards: of the same answers.
    """
    chosen, rejected = rewards.view(2, -1).unbind()
    kept = ranked_as_labelled(chosen, rejected).repeat(2)
    return states[torch.nonzero(kept).flatten()], rewards[kept]
