"""Hidden states through the head, for the codecs that store hidden states."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.numerics import log_softmax, token_log_probs
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.codec import MAX_LOGITS


def token_log_probs_of(
    hidden_states: Float[Tensor, "tokens hidden"],
    target_ids: Int[Tensor, " tokens"],
    *,
    head: OutputHead | None,
    max_logits: int = MAX_LOGITS,
) -> Float[Tensor, " tokens"]:
    """Log-prob of each target in nats; the product never holds more than `max_logits` numbers, or one row."""
    assert head is not None, "codecs of hidden states are decoded with the head"
    rows = max(1, max_logits // head.weight.shape[0])
    pairs = zip(torch.split(hidden_states, rows), torch.split(target_ids, rows), strict=True)
    return torch.cat([token_log_probs(head.logits(states), targets.long()) for states, targets in pairs])


def log_probs_of(
    hidden_states: Float[Tensor, "tokens hidden"], *, head: OutputHead | None
) -> Float[Tensor, "tokens vocab"]:
    """Whole distributions in nats."""
    assert head is not None, "codecs of hidden states are decoded with the head"
    return log_softmax(head.logits(hidden_states))


def not_finite(what: str, values: Float[Tensor, "tokens columns"]) -> str | None:
    """Names the first token whose values are not all finite; None: all are."""
    wrong = (~values.isfinite().all(-1)).nonzero()
    return None if len(wrong) == 0 else f"the {what} of token {int(wrong[0])} is not finite"
