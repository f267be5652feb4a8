"""From logits to the next token: greedy, or by inverse transform of a uniform draw that belongs to the prompt."""

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from distill.numerics import widened
from distill.settings import Settings


class SamplingSettings(Settings):
    """How answers are drawn from the model."""

    temperature: float = Field(1.0, ge=0, description="divides logits; 0 takes the likeliest token")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the likeliest tokens that reach this probability together")
    top_k: int = Field(0, ge=0, description="keep this many likeliest tokens; 0 keeps all")
    max_new_tokens: int = Field(128, gt=0, description="longest answer")
    batch_size: int = Field(64, gt=0, description="prompts answered at once; changes speed only")


def next_tokens(
    logits: Float[Tensor, "batch vocab"], draws: Float[Tensor, " batch"], *, settings: SamplingSettings
) -> Int[Tensor, " batch"]:
    r"""The next token of each row: the smallest :math:`v` with :math:`\sum_{w \le v} p_w > u`.

    A row's token depends on its own logits and its own draw only, so neither the order of prompts nor the size of
    batches changes what is sampled.

    Args:
        logits: unnormalised.
        draws: one uniform number in [0, 1) a row; unused at temperature 0.
        settings: temperature and cuts; the temperature comes first, then top-k, then top-p.
    """
    logits = widened(logits)
    if settings.temperature == 0:
        return logits.argmax(-1)
    probs = torch.softmax(kept_logits(logits / settings.temperature, settings=settings), dim=-1)
    cumulative = probs.double().cumsum(-1)
    tokens = torch.searchsorted(cumulative, draws.double().unsqueeze(-1) * cumulative[:, -1:], right=True).squeeze(-1)
    return torch.where(tokens == logits.shape[-1], probs.argmax(-1), tokens)


def kept_logits(logits: Float[Tensor, "batch vocab"], *, settings: SamplingSettings) -> Float[Tensor, "batch vocab"]:
    """`logits` with -inf in place of the tokens that top-k and top-p leave out; the likeliest always stays."""
    if 0 < settings.top_k < logits.shape[-1]:
        lowest = logits.topk(settings.top_k, dim=-1).values[:, -1:]
        logits = torch.where(logits < lowest, -torch.inf, logits)
    if settings.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        probs = torch.softmax(ordered, dim=-1)
        is_left_out = probs.cumsum(-1) - probs >= settings.top_p
        ordered = torch.where(is_left_out, -torch.inf, ordered)
        logits = torch.empty_like(logits).scatter(-1, order, ordered)
    return logits


def prompt_draws(prompts: Sequence[Sequence[int]], *, num_draws: int, seed: int) -> Float[Tensor, "batch sequence"]:
    """Uniform draws in [0, 1) for each prompt, seeded by `seed`, its ids, and how often it came before."""
    seen: dict[tuple[int, ...], int] = {}
    rows = []
    for prompt in prompts:
        key = tuple(prompt)
        count = seen[key] = seen.get(key, -1) + 1
        digest = hashlib.sha256(repr((seed, count, key)).encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
        rows.append(torch.rand(num_draws, generator=generator))
    return torch.stack(rows) if rows else torch.empty(0, num_draws)
