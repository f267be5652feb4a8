"""Made-up teachers of a few tokens, and what their codecs say."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import Codec, EncodedRows, HeadShape, TierSettings, make_codec

CODEC_SETTINGS: list[dict[str, object]] = [
    {"codec": "scores"},
    {"codec": "exact"},
    {"codec": "exact", "hidden_dtype": "float32"},
    {"codec": "exact-int8", "group_size": 8},
    {"codec": "logits-bf16"},
    {"codec": "top-k", "k": 5},
    {"codec": "sampled", "num_samples": 20},
]


def label(settings: dict[str, object]) -> str:
    return "-".join(str(value) for value in settings.values())


def some_head(
    *, vocab_size: int = 150, hidden_size: int = 20, seed: int = 0, scale: float = 1.0, soft_cap: float | None = None
) -> OutputHead:
    """Logits of spread about 3: an entropy of some 2 nats."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(vocab_size, hidden_size, generator=draw) * 3 / math.sqrt(hidden_size)
    return OutputHead(weight, torch.randn(vocab_size, generator=draw), scale, soft_cap)


def some_states(tokens: int, *, hidden_size: int = 20, seed: int = 1) -> Float[Tensor, "tokens hidden"]:
    return torch.randn(tokens, hidden_size, generator=torch.Generator().manual_seed(seed))


def codec_for(head: OutputHead, **settings: object) -> Codec:
    vocab_size, hidden_size = head.weight.shape
    return make_codec(TierSettings.model_validate(settings), HeadShape(vocab_size, hidden_size))


def encoded(
    codec: Codec,
    hidden_states: Float[Tensor, "tokens hidden"],
    head: OutputHead,
    *,
    target_ids: Tensor | None = None,
    lengths: Sequence[int] | None = None,
) -> EncodedRows:
    """Sequences named 0, 1, ...; targets 0, 1, ... unless told."""
    lengths = [len(hidden_states)] if lengths is None else lengths
    if target_ids is None:
        target_ids = torch.arange(len(hidden_states)) % head.weight.shape[0]
    names = [str(number) for number in range(len(lengths))]
    return codec.encode(hidden_states, target_ids, head=head, sequence_ids=names, lengths=lengths)


def kl_nats(true: Tensor, other: Tensor) -> Tensor:
    """KL(true || other) of log-probs, in float64."""
    true, other = true.double().log_softmax(-1), other.double().log_softmax(-1)
    return (true.exp() * (true - other)).sum(-1)


def int8_steps(rows: EncodedRows, hidden_size: int) -> torch.Tensor:
    """Of each group of `exact-int8`: byte b stands for a step of 2^((b - 160) / 8)."""
    return 2.0 ** ((rows.records[:, hidden_size:].float() - 160) / 8)
