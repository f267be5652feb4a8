"""The named tensors that travel from the trainer to the objectives."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class PairTerms:
    """What the models say about a batch of preference pairs.

    Log-probs are sums over an answer's tokens, the end-of-turn token included, in nats. Only the policy's
    carry a gradient. A term that an objective does not read may be absent; `pair_loss` says so when one is
    needed after all.
    """

    policy_chosen_log_probs: Float[Tensor, " batch"]
    policy_rejected_log_probs: Float[Tensor, " batch"]
    reference_chosen_log_probs: Float[Tensor, " batch"] | None = None
    reference_rejected_log_probs: Float[Tensor, " batch"] | None = None
    teacher_chosen_log_probs: Float[Tensor, " batch"] | None = None
    teacher_rejected_log_probs: Float[Tensor, " batch"] | None = None
    num_chosen_tokens: Int[Tensor, " batch"] | None = None


@dataclass(frozen=True)
class TokenTerms:
    """Full distributions at the completion tokens of a batch of pairs, laid end to end in any order.

    `pair_index` says to which pair of the batch a token belongs, `is_chosen` to which of its two answers.
    The teacher's distributions carry no gradient.
    """

    teacher_log_probs: Float[Tensor, "tokens vocab"]
    student_log_probs: Float[Tensor, "tokens vocab"]
    pair_index: Int[Tensor, " tokens"]
    is_chosen: Bool[Tensor, " tokens"]


@dataclass(frozen=True)
class PairLoss:
    """One loss per pair, unreduced, and what is worth logging about each pair (detached, by name)."""

    loss: Float[Tensor, " batch"]
    quantities: dict[str, Float[Tensor, " batch"]]
