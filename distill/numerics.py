"""Log-probabilities and masked sums in float32 or wider; the only place that upcasts."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def widened(values: Tensor) -> Tensor:
    """`values` in float32, or in float64 where they were float64."""
    return values if values.dtype == torch.float64 else values.float()


def log_softmax(logits: Float[Tensor, "*positions vocab"]) -> Float[Tensor, "*positions vocab"]:
    """Log-probabilities over the last axis, in float32 or wider."""
    return torch.log_softmax(widened(logits), dim=-1)


def token_log_probs(
    logits: Float[Tensor, "*positions vocab"], target_ids: Int[Tensor, " *positions"]
) -> Float[Tensor, " *positions"]:
    r"""Log-probability of each target, in nats: :math:`z_y - \log \sum_v e^{z_v}`."""
    logits = widened(logits)
    return logits.gather(-1, target_ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def masked_sum(
    values: Float[Tensor, "batch sequence"], mask: Bool[Tensor, "batch sequence"]
) -> Float[Tensor, " batch"]:
    """Sum of `values` where `mask` holds; what stands elsewhere, nan too, changes nothing."""
    return torch.where(mask, widened(values), 0.0).sum(-1)


def segment_sum(
    values: Float[Tensor, " tokens"], segment: Int[Tensor, " tokens"], num_segments: int
) -> Float[Tensor, " segments"]:
    """Sums `values` by `segment`; a segment without values sums to zero.

    Values are added one after another, so that their sum is kept in float64: in float32 the log-prob of an answer of
    some hundred tokens would be off by a thousandth of a nat.
    """
    values = widened(values)
    sums = values.new_zeros(num_segments, dtype=torch.float64)
    return sums.index_add(0, segment, values.double()).to(values.dtype)
