"""daDPO: direct preference optimization that also holds the policy to the teacher's distribution.

No official code of the paper is known. The loss is the one that its quoted fragments and a derivation agree on:
the reward of an RL objective with two reverse KLs, to the reference and to the teacher, in a Bradley-Terry model.
"""

from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from distill.errors import RecipeError
from distill.objectives.dpo import log_ratio, log_ratio_difference, reward_quantities
from distill.objectives.token_divergence import TokenDivergenceSettings
from distill.settings import Settings


class DadpoSettings(Settings):
    """How `dadpo_loss` weighs the reference and the teacher, and the two guards beside it."""

    name: Literal["dadpo"] = "dadpo"
    beta_reference: float = Field(0.05, ge=0, allow_inf_nan=False, description="pull toward the reference")
    beta_teacher: float = Field(
        0.05,
        ge=0,
        allow_inf_nan=False,
        description="pull toward the teacher; beta_teacher times the median delta_te is well chosen at 1 to 3",
    )
    nll_weight: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="weight of the chosen answer's mean negative log-likelihood a token"
    )
    token_divergence: TokenDivergenceSettings | None = Field(
        None, description="a token-level term on the teacher's full distributions; not in the paper's loss"
    )

    @model_validator(mode="after")
    def _betas_have_a_positive_sum(self) -> Self:
        if self.beta_reference + self.beta_teacher <= 0:
            raise ValueError("beta_reference and beta_teacher are both 0, and their sum must be positive")
        return self


def dadpo_loss(
    policy_chosen_log_probs: Float[Tensor, " batch"],
    policy_rejected_log_probs: Float[Tensor, " batch"],
    reference_chosen_log_probs: Float[Tensor, " batch"],
    reference_rejected_log_probs: Float[Tensor, " batch"],
    teacher_chosen_log_probs: Float[Tensor, " batch"],
    teacher_rejected_log_probs: Float[Tensor, " batch"],
    *,
    beta_reference: float = 0.1,
    beta_teacher: float = 0.1,
) -> Float[Tensor, " batch"]:
    r"""The daDPO loss of each pair, from log-probs summed over each answer.

    .. math:: -\log\sigma(M), \quad
              M = \beta_1 (\Delta\log\pi - \Delta\log\pi_{ref}) + \beta_2 (\Delta\log\pi - \Delta\log\pi_{te}),
              \quad \Delta a = a(y_w) - a(y_l)

    With `beta_teacher=0` this is `dpo_loss` bit for bit and the teacher's terms are not read, so that they may be
    -inf or nan; the same holds of the reference with `beta_reference=0`. At the start of training (policy =
    reference) the margin is -beta_teacher delta_te, usually far below zero: an accuracy under one half is no error.

    Args:
        policy_chosen_log_probs: the model being trained; the only terms that carry a gradient.
        policy_rejected_log_probs: the same, of the other answer.
        reference_chosen_log_probs: the frozen start of training.
        reference_rejected_log_probs: the same, of the other answer.
        teacher_chosen_log_probs: the teacher's; may come from another vocabulary.
        teacher_rejected_log_probs: the same, of the other answer.
        beta_reference: pull toward the reference, at least 0.
        beta_teacher: pull toward the teacher, at least 0; the two betas together are positive.

    Returns:
        One non-negative value per pair, neither weighted nor averaged.

    Raises:
        RecipeError: a beta is negative or not finite, or both are 0.

    Source:
        Zhang et al. 2025, arXiv:2506.15717, sec. 4.1-4.2, eq. 7-10.
        Differs: the exact form of eq. 10 is derived from its description, not copied from the paper.
    """
    _require_betas(beta_reference, beta_teacher)
    policy = (policy_chosen_log_probs, policy_rejected_log_probs)
    parts: list[Tensor] = []
    if beta_reference > 0.0:
        difference = log_ratio_difference(*policy, reference_chosen_log_probs, reference_rejected_log_probs)
        parts.append(beta_reference * difference)
    if beta_teacher > 0.0:
        difference = log_ratio_difference(*policy, teacher_chosen_log_probs, teacher_rejected_log_probs)
        parts.append(beta_teacher * difference)
    return -logsigmoid(parts[0] if len(parts) == 1 else parts[0] + parts[1])


def dadpo_quantities(
    policy_chosen_log_probs: Float[Tensor, " batch"],
    policy_rejected_log_probs: Float[Tensor, " batch"],
    reference_chosen_log_probs: Float[Tensor, " batch"],
    reference_rejected_log_probs: Float[Tensor, " batch"],
    teacher_chosen_log_probs: Float[Tensor, " batch"],
    teacher_rejected_log_probs: Float[Tensor, " batch"],
    *,
    beta_reference: float = 0.1,
    beta_teacher: float = 0.1,
) -> dict[str, Float[Tensor, " batch"]]:
    """What is worth logging of each pair, detached.

    Returns:
        `chosen_reward` and `rejected_reward`, beta_reference log(policy / reference) + beta_teacher log(policy /
        teacher) in nats, the reward of eq. 9 without its partition function; `margin`, their difference, which the
        sigmoid sees; `pair_weight`, sigmoid(-margin); `accuracy`, 1.0 where the margin is positive; `delta_te`,
        log(teacher / reference) of the chosen answer less that of the rejected one.
    """
    _require_betas(beta_reference, beta_teacher)
    rewards: list[Tensor] = []
    for policy, reference, teacher in (
        (policy_chosen_log_probs, reference_chosen_log_probs, teacher_chosen_log_probs),
        (policy_rejected_log_probs, reference_rejected_log_probs, teacher_rejected_log_probs),
    ):
        reward = torch.zeros_like(log_ratio(policy, reference))
        if beta_reference > 0.0:
            reward = reward + beta_reference * log_ratio(policy, reference).detach()
        if beta_teacher > 0.0:
            reward = reward + beta_teacher * log_ratio(policy, teacher).detach()
        rewards.append(reward)
    delta_te = log_ratio_difference(
        teacher_chosen_log_probs, teacher_rejected_log_probs, reference_chosen_log_probs, reference_rejected_log_probs
    )
    return {**reward_quantities(rewards[0], rewards[1]), "delta_te": delta_te.detach()}


def _require_betas(beta_reference: float, beta_teacher: float) -> None:
    for name, beta in (("beta_reference", beta_reference), ("beta_teacher", beta_teacher)):
        if not 0.0 <= beta < torch.inf:
            raise RecipeError(f"{name} is {beta}", why="it must be finite and not negative", fix=f"{name}=0.05")
    if beta_reference + beta_teacher <= 0.0:
        raise RecipeError(
            "beta_reference and beta_teacher are both 0",
            why="their sum must be positive, or the loss does not depend on the policy",
            fix="for example beta_reference=0.05 beta_teacher=0.05",
        )
