"""The output head as plain tensors: what turns final hidden states into logits."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.numerics import widened


@dataclass(frozen=True)
class OutputHead:
    """`logits = soft_cap * tanh(scale * (h W^T + b) / soft_cap)`; without soft-cap, `scale * (h W^T + b)`.

    `logit_scale` multiplies the logits (Cohere's `logit_scale`, the inverse of Granite's `logits_scaling`).
    """

    weight: Float[Tensor, "vocab hidden"]
    bias: Float[Tensor, " vocab"] | None = None
    logit_scale: float = 1.0
    soft_cap: float | None = None

    def logits(self, hidden_states: Float[Tensor, "*positions hidden"]) -> Float[Tensor, "*positions vocab"]:
        """Logits in float32 or wider, whatever dtype the hidden states and the weight are stored in."""
        bias = None if self.bias is None else widened(self.bias)
        projected = torch.nn.functional.linear(widened(hidden_states), widened(self.weight), bias)
        return self.adjusted(projected)

    def adjusted(self, projected: Float[Tensor, "*positions vocab"]) -> Float[Tensor, "*positions vocab"]:
        """Scale and soft-cap applied to `h W^T + b`, in float32 or wider."""
        return scaled_and_capped(projected, logit_scale=self.logit_scale, soft_cap=self.soft_cap)


def scaled_and_capped(
    projected: Float[Tensor, "*positions vocab"], *, logit_scale: float, soft_cap: float | None
) -> Float[Tensor, "*positions vocab"]:
    """Scale, then soft-cap (Gemma 2, arXiv:2408.00118, sec. 2), in float32 or wider."""
    # Most heads have no scale: a product with 1 would copy all logits.
    scaled = widened(projected) if logit_scale == 1.0 else widened(projected) * logit_scale
    return scaled if soft_cap is None else soft_cap * torch.tanh(scaled / soft_cap)
