"""The named tensors that travel from the trainer to the objectives."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class PairTerms:
    """What the models say about a batch of preference pairs.

    Log-probs are sums over an answer's tokens, the end-of-turn token included, in nats. Only the policy's
    carry a gradient. A term that an objective does not read may be absent; `pair_loss` says so when one is
    needed after all. Counts of tokens are the student's; the teacher's own are given where its tokenizer differs.
    """

    policy_chosen_log_probs: Float[Tensor, " batch"]
    policy_rejected_log_probs: Float[Tensor, " batch"]
    reference_chosen_log_probs: Float[Tensor, " batch"] | None = None
    reference_rejected_log_probs: Float[Tensor, " batch"] | None = None
    teacher_chosen_log_probs: Float[Tensor, " batch"] | None = None
    teacher_rejected_log_probs: Float[Tensor, " batch"] | None = None
    num_chosen_tokens: Int[Tensor, " batch"] | None = None
    num_rejected_tokens: Int[Tensor, " batch"] | None = None
    num_teacher_chosen_tokens: Int[Tensor, " batch"] | None = None
    num_teacher_rejected_tokens: Int[Tensor, " batch"] | None = None


@dataclass(frozen=True)
class HiddenStateRows:
    """The teacher's final hidden states at the student's tokens; its head makes logits of them.

    `is_told` marks the tokens that the teacher says something about; None: all. What stands at others is filling.
    """

    hidden_states: Float[Tensor, "tokens hidden"]
    is_told: Bool[Tensor, " tokens"] | None = None


@dataclass(frozen=True)
class LogitRows:
    """The teacher's logits, or log-probs in any dtype: what they miss of summing to one is made good where read."""

    logits: Float[Tensor, "tokens vocab"]
    is_told: Bool[Tensor, " tokens"] | None = None


@dataclass(frozen=True)
class TopKRows:
    """The likeliest tokens, likeliest first, with true log-probs; `tail_mass` is that of all others together."""

    token_ids: Int[Tensor, "tokens k"]
    log_probs: Float[Tensor, "tokens k"]
    tail_mass: Float[Tensor, " tokens"]
    is_told: Bool[Tensor, " tokens"] | None = None
    vocab_size: int | None = None


@dataclass(frozen=True)
class SampledRows:
    """Tokens drawn from the teacher with how often each came up; entries of count 0 fill the rectangle up."""

    token_ids: Int[Tensor, "tokens entries"]
    counts: Int[Tensor, "tokens entries"]
    is_told: Bool[Tensor, " tokens"] | None = None
    vocab_size: int | None = None


TeacherRows = HiddenStateRows | LogitRows | TopKRows | SampledRows
Rows = TypeVar("Rows", bound=TeacherRows)


def part_of_rows(rows: Rows, start: int, stop: int) -> Rows:
    """The rows of the tokens from `start` to before `stop`, as views."""
    return _applied(rows, lambda tensor: tensor[start:stop])


def selected_rows(rows: Rows, index: Int[Tensor, " selected"]) -> Rows:
    """The rows of the tokens that `index` names, in its order."""
    return _applied(rows, lambda tensor: tensor[index])


def moved_rows(rows: Rows, device: torch.device) -> Rows:
    """The same rows on `device`."""
    return _applied(rows, lambda tensor: tensor.to(device))


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
class TokenValues:
    """What `token_divergences` made of each completion token, chunk by chunk; placed as in `TokenTerms`.

    `is_told` is that of the teacher's rows.
    """

    values: Float[Tensor, " tokens"]
    pair_index: Int[Tensor, " tokens"]
    is_chosen: Bool[Tensor, " tokens"]
    is_told: Bool[Tensor, " tokens"] | None = None


@dataclass(frozen=True)
class PairLoss:
    """One loss per pair, unreduced, and what is worth logging about each pair (detached, by name)."""

    loss: Float[Tensor, " batch"]
    quantities: dict[str, Float[Tensor, " batch"]]


def _applied(rows: Rows, function: Callable[[Tensor], Tensor]) -> Rows:
    changes: dict[str, Any] = {
        field.name: function(value) for field in fields(rows) if isinstance(value := getattr(rows, field.name), Tensor)
    }
    return replace(rows, **changes)
