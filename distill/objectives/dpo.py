"""dDPO: direct preference optimization with the teacher's answer preferred to the student's."""

from typing import Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from distill.errors import RecipeError
from distill.numerics import widened
from distill.objectives.f_dpo import FDivergenceName, f_dpo_reward
from distill.settings import Settings


class DpoSettings(Settings):
    """How `dpo_loss` weighs the pair."""

    name: Literal["dpo"] = "dpo"
    beta: float = Field(
        0.1, gt=0, allow_inf_nan=False, description="pull toward the reference; published runs use 0.01 to 0.5"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of pairs believed flipped")
    divergence: FDivergenceName = Field(
        "reverse_kl", description="what holds the policy to the reference; reverse_kl is DPO, the others f-DPO"
    )
    alpha: float | None = Field(
        None, gt=0, lt=1, description="of divergence alpha: toward 0 reverse_kl, toward 1 forward_kl; none: 0.5"
    )
    nll_weight: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="weight of the chosen answer's mean negative log-likelihood a token"
    )

    @model_validator(mode="after")
    def _alpha_is_read(self) -> Self:
        if self.alpha is not None and self.divergence != "alpha":
            raise ValueError(f"alpha is {self.alpha}, but divergence {self.divergence} does not read it")
        return self


def dpo_loss(
    policy_chosen_log_probs: Float[Tensor, " batch"],
    policy_rejected_log_probs: Float[Tensor, " batch"],
    reference_chosen_log_probs: Float[Tensor, " batch"],
    reference_rejected_log_probs: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    divergence: FDivergenceName = "reverse_kl",
    alpha: float = 0.5,
) -> Float[Tensor, " batch"]:
    r"""The DPO loss of each pair, from log-probs summed over each answer.

    .. math:: -(1 - \epsilon) \log\sigma(M) - \epsilon \log\sigma(-M), \quad
              M = \beta \left[ f'\!\left(\frac{\pi(y_w)}{\pi_{ref}(y_w)}\right)
                  - f'\!\left(\frac{\pi(y_l)}{\pi_{ref}(y_l)}\right) \right]

    with f' = log for `reverse_kl`, which is plain DPO; the others are in `f_dpo_reward`.

    A chosen answer that only the policy rules out costs +inf. Ruled out by policy and reference alike, it has
    no ratio and the result is nan, which the trainer refuses.

    Args:
        policy_chosen_log_probs: the model being trained; the only term that carries a gradient.
        policy_rejected_log_probs: the same, of the other answer.
        reference_chosen_log_probs: the frozen start of training.
        reference_rejected_log_probs: the same, of the other answer.
        beta: pull toward the reference, positive.
        label_smoothing: share of pairs believed flipped, at least 0 and below 1/2.
        divergence: what holds the policy to the reference.
        alpha: of divergence `alpha`, between 0 and 1.

    Returns:
        One non-negative value per pair, neither weighted nor averaged.

    Raises:
        RecipeError: beta, label_smoothing or alpha is out of range, or there is no such divergence.

    Source:
        Rafailov et al. 2023, arXiv:2305.18290, eq. 7; label smoothing: Mitchell 2023, "A note on DPO with noisy
        preferences", eq. 3; f-DPO: Wang et al. 2023, arXiv:2309.16240, thm. 1; for distillation, Tunstall et al.
        2023 (Zephyr), arXiv:2310.16944, sec. 3.3.
    """
    if not 0.0 < beta < torch.inf:
        raise RecipeError(f"beta is {beta}", why="it must be positive and finite", fix="for example beta=0.1")
    if not 0.0 <= label_smoothing < 0.5:
        raise RecipeError(
            f"label_smoothing is {label_smoothing}", why="it must be at least 0 and below 1/2", fix="label_smoothing=0"
        )
    chosen = f_dpo_reward(log_ratio(policy_chosen_log_probs, reference_chosen_log_probs), divergence, alpha=alpha)
    rejected = f_dpo_reward(log_ratio(policy_rejected_log_probs, reference_rejected_log_probs), divergence, alpha=alpha)
    margin = beta * (chosen - rejected)
    if label_smoothing == 0.0:
        return -logsigmoid(margin)
    return -(1.0 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def dpo_quantities(
    policy_chosen_log_probs: Float[Tensor, " batch"],
    policy_rejected_log_probs: Float[Tensor, " batch"],
    reference_chosen_log_probs: Float[Tensor, " batch"],
    reference_rejected_log_probs: Float[Tensor, " batch"],
    *,
    beta: float = 0.1,
    divergence: FDivergenceName = "reverse_kl",
    alpha: float = 0.5,
) -> dict[str, Float[Tensor, " batch"]]:
    """What is worth logging of each pair, detached.

    Returns:
        `chosen_reward` and `rejected_reward`, beta f'(policy / reference), in nats for reverse_kl; `margin`, their
        difference, which the sigmoid sees; `pair_weight`, sigmoid(-margin), the share of the gradient's largest size;
        `accuracy`, 1.0 where the margin is positive.
    """
    chosen = log_ratio(policy_chosen_log_probs, reference_chosen_log_probs).detach()
    rejected = log_ratio(policy_rejected_log_probs, reference_rejected_log_probs).detach()
    return reward_quantities(
        beta * f_dpo_reward(chosen, divergence, alpha=alpha), beta * f_dpo_reward(rejected, divergence, alpha=alpha)
    )


def reward_quantities(
    chosen_reward: Float[Tensor, " batch"], rejected_reward: Float[Tensor, " batch"]
) -> dict[str, Float[Tensor, " batch"]]:
    """Margin, pair weight and accuracy beside the two implicit rewards they follow from."""
    return {
        **margin_quantities(chosen_reward - rejected_reward),
        "chosen_reward": chosen_reward,
        "rejected_reward": rejected_reward,
    }


def margin_quantities(margin: Float[Tensor, " batch"]) -> dict[str, Float[Tensor, " batch"]]:
    """The margin with the pair weight and the accuracy that follow from it."""
    return {"margin": margin, "pair_weight": torch.sigmoid(-margin), "accuracy": (margin > 0).to(margin.dtype)}


def log_ratio(
    policy_log_probs: Float[Tensor, " batch"], anchor_log_probs: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """log(policy / anchor) of one answer, the anchor without gradient, in float32 or wider."""
    return widened(policy_log_probs) - widened(anchor_log_probs.detach())


def log_ratio_difference(
    policy_chosen_log_probs: Float[Tensor, " batch"],
    policy_rejected_log_probs: Float[Tensor, " batch"],
    anchor_chosen_log_probs: Float[Tensor, " batch"],
    anchor_rejected_log_probs: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """log(policy / anchor) of the chosen answer less that of the rejected one."""
    return log_ratio(policy_chosen_log_probs, anchor_chosen_log_probs) - log_ratio(
        policy_rejected_log_probs, anchor_rejected_log_probs
    )


def mean_nll(log_probs: Float[Tensor, " batch"], num_tokens: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """Negative log-likelihood a token of one answer, in nats; 0 of an answer without tokens.

    Source:
        as a guard of preference losses: Pang et al. 2024 (Iterative RPO), arXiv:2404.19733, eq. 2.
    """
    return -widened(log_probs) / num_tokens.clamp_min(1)
