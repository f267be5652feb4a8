"""f-DPG: moves a policy toward a target distribution, known up to its normaliser, along any f-divergence.

The target is any log P(answer | prompt); see `energy_targets`. The policy's own answers, or those of a proposal, are
paid pseudo-rewards by how much too likely or too unlikely they are.
"""

from jaxtyping import Float
from torch import Tensor

from distill.errors import RecipeError
from distill.numerics import widened
from distill.objectives.f_generators import f_generator, pseudo_reward

SMOOTHED = "a moment below 1 in place of the hard constraint"


def f_dpg_weight(
    policy_log_probs: Float[Tensor, " batch"],
    target_log_probs: Float[Tensor, " batch"],
    proposal_log_probs: Float[Tensor, " batch"],
    *,
    divergence: str,
    alpha: float = 0.5,
    baseline: float = 0.0,
    max_reward: float | None = None,
) -> Float[Tensor, " batch"]:
    r"""How far each answer's log-prob is to be raised: importance ratio times advantage, without gradient.

    .. math:: \frac{\pi(x)}{q(x)} \, \bigl(-f'(\pi(x) / p(x)) - b\bigr)

    Args:
        policy_log_probs: the model being trained, log-probs summed over each answer.
        target_log_probs: log P - log Z of each answer's prompt; -inf where the target rules the answer out.
        proposal_log_probs: of whatever drew the answers; those of the policy itself where it did (the ratio is 1).
        divergence: one of `GENERATORS`.
        alpha: of `alpha`.
        baseline: b, from answers other than these.
        max_reward: rewards above it are cut to it; None: none is.

    Returns:
        One finite number an answer, except -inf by a divergence that bears no zeros; see `require_bearable_zeros`.

    Raises:
        RecipeError: there is no such divergence, or alpha is out of range.

    Source:
        Go et al. 2023 (f-DPG), arXiv:2302.08215, thm. 1 and alg. 1.
    """
    policy = widened(policy_log_probs).detach()
    reward = pseudo_reward(policy - widened(target_log_probs), divergence, alpha=alpha, max_reward=max_reward)
    return (policy - widened(proposal_log_probs).detach()).exp() * (reward - baseline)


def f_dpg_loss(
    policy_log_probs: Float[Tensor, " batch"],
    target_log_probs: Float[Tensor, " batch"],
    proposal_log_probs: Float[Tensor, " batch"],
    *,
    divergence: str,
    alpha: float = 0.5,
    baseline: float = 0.0,
    max_reward: float | None = None,
) -> Float[Tensor, " batch"]:
    r"""A loss whose gradient, on average over answers of the proposal, is that of :math:`D_f(\pi \| p)`.

    .. math:: -\mathrm{sg}\Bigl[\frac{\pi(x)}{q(x)} \bigl(-f'(\pi(x) / p(x)) - b\bigr)\Bigr] \log \pi(x)

    Its value means nothing: neither is it the divergence, nor does it fall as the divergence does.

    Args: as for `f_dpg_weight`; `policy_log_probs` carries the gradient.

    Source:
        Go et al. 2023 (f-DPG), arXiv:2302.08215, thm. 1 and alg. 1.
    """
    weight = f_dpg_weight(
        policy_log_probs,
        target_log_probs,
        proposal_log_probs,
        divergence=divergence,
        alpha=alpha,
        baseline=baseline,
        max_reward=max_reward,
    )
    return -weight * widened(policy_log_probs)


def require_bearable_zeros(divergence: str, *, constraint: str) -> None:
    """Refuses a divergence that has no finite reward for an answer which a hard constraint rules out.

    Raises:
        RecipeError: it is reverse_kl or reverse_chi_squared.
    """
    if f_generator(divergence).bears_zeros:
        return
    raise RecipeError(
        f"divergence {divergence} toward a target with the hard constraint {constraint}",
        why="where the target is 0 and the policy is not, that divergence is infinite and its pseudo-reward -inf, so "
        "that a single answer which breaks the constraint would make the gradient infinite",
        fix="divergence jensen_shannon, forward_kl, total_variation, chi_squared or alpha; or " + SMOOTHED,
    )
