"""daDPO: direct preference optimization that also holds the policy to the teacher's distribution.

No official code of the paper is known. The loss is the one that its quoted fragments and a derivation agree on:
the reward of an RL objective with two reverse KLs, to the reference and to the teacher, in a Bradley-Terry model.
"""

from typing import Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from distill.errors import RecipeError
from distill.numerics import widened
from distill.objectives.dpo import log_ratio, log_ratio_difference, margin_quantities, reward_quantities
from distill.objectives.token_divergence import TokenDivergenceSettings
from distill.settings import Settings


class DadpoSettings(Settings):
    """How `dadpo_loss` weighs the reference and the teacher, and the guards beside it.

    Differs: `clip`, `length_normalised`, `nll_weight` and `token_divergence` are ours, not the paper's, and off.
    A comparison with dDPO at beta holds beta_reference + beta_teacher = beta.
    """

    name: Literal["dadpo"] = "dadpo"
    beta_reference: float = Field(0.05, ge=0, allow_inf_nan=False, description="pull toward the reference")
    beta_teacher: float = Field(
        0.05,
        ge=0,
        allow_inf_nan=False,
        description="pull toward the teacher; beta_teacher times the median delta_te is well chosen at 1 to 3",
    )
    clip: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="cuts delta_te to [-clip, clip], in nats; not in the paper's loss"
    )
    length_normalised: bool = Field(
        False, description="divides each log-prob by its own number of tokens; not in the paper's loss"
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
    clip: float | None = None,
) -> Float[Tensor, " batch"]:
    r"""The daDPO loss of each pair, from log-probs summed over each answer.

    .. math:: -\log\sigma(M), \quad
              M = \beta_1 (\Delta\log\pi - \Delta\log\pi_{ref}) + \beta_2 (\Delta\log\pi - \Delta\log\pi_{te}),
              \quad \Delta a = a(y_w) - a(y_l)

    With `beta_teacher=0` this is `dpo_loss` bit for bit and the teacher's terms are not read, so that they may be
    -inf or nan; the same holds of the reference with `beta_reference=0`. At the start of training (policy =
    reference) the margin is -beta_teacher delta_te, usually far below zero: an accuracy under one half is no error.

    With `clip` = c the teacher's offset is held to what c nats would make it, and the reference is always read:

    .. math:: M = (\beta_1 + \beta_2) (\Delta\log\pi - \Delta\log\pi_{ref})
                  - \beta_2 \, \mathrm{clamp}(\delta_{te}, -c, c), \quad
              \delta_{te} = \Delta\log\pi_{te} - \Delta\log\pi_{ref}

    A c that no pair reaches changes nothing; as c falls to 0 this becomes dDPO at beta_1 + beta_2.

    Args:
        policy_chosen_log_probs: the model being trained; the only terms that carry a gradient.
        policy_rejected_log_probs: the same, of the other answer.
        reference_chosen_log_probs: the frozen start of training.
        reference_rejected_log_probs: the same, of the other answer.
        teacher_chosen_log_probs: the teacher's; may come from another vocabulary.
        teacher_rejected_log_probs: the same, of the other answer.
        beta_reference: pull toward the reference, at least 0.
        beta_teacher: pull toward the teacher, at least 0; the two betas together are positive.
        clip: the largest delta_te that counts, in nats, positive; None: all of it, as in the paper.

    Returns:
        One non-negative value per pair, neither weighted nor averaged.

    Raises:
        RecipeError: a beta is negative or not finite, or both are 0; clip is not positive.

    Source:
        Zhang et al. 2025, arXiv:2506.15717, sec. 4.1-4.2, eq. 7-10.
        Differs: the exact form of eq. 10 is derived from its description, not copied from the paper; `clip` is ours.
    """
    _require_betas(beta_reference, beta_teacher)
    policy = (policy_chosen_log_probs, policy_rejected_log_probs)
    reference = (reference_chosen_log_probs, reference_rejected_log_probs)
    if clip is not None and beta_teacher > 0.0:
        _require_clip(clip)
        delta_te = log_ratio_difference(teacher_chosen_log_probs, teacher_rejected_log_probs, *reference).detach()
        difference = log_ratio_difference(*policy, *reference)
        return -logsigmoid((beta_reference + beta_teacher) * difference - beta_teacher * delta_te.clamp(-clip, clip))
    parts: list[Tensor] = []
    if beta_reference > 0.0:
        difference = log_ratio_difference(*policy, *reference)
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
    clip: float | None = None,
) -> dict[str, Float[Tensor, " batch"]]:
    """What is worth logging of each pair, detached.

    Returns:
        `chosen_reward` and `rejected_reward`, beta_reference log(policy / reference) + beta_teacher log(policy /
        teacher) in nats, the reward of eq. 9 without its partition function; `margin`, their difference, which the
        sigmoid sees; `pair_weight`, sigmoid(-margin); `accuracy`, 1.0 where the margin is positive; `delta_te`,
        log(teacher / reference) of the chosen answer less that of the rejected one, before any clip. Where `clip` cuts
        it, `margin`, `pair_weight` and `accuracy` are of the cut offset, and the rewards as they would be without.
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
    delta_te = delta_te.detach()
    quantities = {**reward_quantities(rewards[0], rewards[1]), "delta_te": delta_te}
    if clip is None or beta_teacher == 0.0:
        return quantities
    _require_clip(clip)
    difference = log_ratio_difference(
        policy_chosen_log_probs, policy_rejected_log_probs, reference_chosen_log_probs, reference_rejected_log_probs
    ).detach()
    margin = (beta_reference + beta_teacher) * difference - beta_teacher * delta_te.clamp(-clip, clip)
    return {**quantities, **margin_quantities(margin)}


def length_normalised(log_probs: Float[Tensor, " batch"], num_tokens: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The mean log-prob of an answer's tokens, in nats a token; 0 of an answer without tokens.

    Each model's log-prob is divided by the number of its own tokens, so that teacher and student with different
    tokenizers stay comparable a token of theirs.

    Source:
        ours for daDPO; in preference losses, Meng et al. 2024 (SimPO), arXiv:2405.14734, sec. 2.2.
    """
    return widened(log_probs) / num_tokens.clamp_min(1)


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


def _require_clip(clip: float) -> None:
    if not 0.0 < clip < torch.inf:
        raise RecipeError(f"clip is {clip}", why="it bounds the size of delta_te", fix="for example clip=50, or none")
