"""Attention over a row of packed completions, run by run: nothing is padded and no mask as wide as the row is made.

A row holds groups of [prompt | first completion | second completion | ...]. Prompt and first completion are one plain
causal sequence; every other completion asks the keys of its prompt and its own. How long the runs are travels where a
decoder takes a prepared attention mask, so that every family which calls transformers' attention interface reads it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from distill.models.adapters import LanguageModel, without_adapters

NAME = "distill_packed"
Attention: TypeAlias = Callable[..., tuple[Tensor, None]]


def as_mask(runs: Int[Tensor, "runs 2"]) -> Int[Tensor, "1 1 runs 2"]:
    """The (branch, length) of a row's runs, in the four-dimensional form of a prepared mask.

    Integers tell it from masks proper, which are boolean or floating.
    """
    return runs.to(torch.int64)[None, None]


def attend_by_runs(model: LanguageModel, *, name: str = NAME, attend: Attention | None = None) -> None:
    """Makes `model` take `as_mask` for an attention mask; with any other mask it attends as ever.

    Args:
        model: any causal language model.
        name: under which transformers knows the function.
        attend: in place of `packed_attention`, the same in another way.

    Raises:
        ValueError: the family does not call transformers' attention interface.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask
    from transformers.utils import logging

    AttentionInterface.register(name, packed_attention if attend is None else attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    inner = without_adapters(model)
    shown = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        inner.set_attn_implementation(name)
    finally:
        logging.set_verbosity(shown)
    if inner.config.get_text_config(decoder=True)._attn_implementation != name:
        raise ValueError(f"{inner.config.model_type} does not call the attention interface")


@contextmanager
def restored_attention(model: LanguageModel) -> Iterator[Callable[[], None]]:
    """Inside the block the way a model attends may be changed; it is put back unless the given function is called."""
    inner = without_adapters(model)
    before = inner.config.get_text_config(decoder=True)._attn_implementation
    kept: list[bool] = []
    try:
        yield lambda: kept.append(True)
    finally:
        if not kept and inner.config.get_text_config(decoder=True)._attn_implementation != before:
            inner.set_attn_implementation(before)


def packed_attention(
    module: torch.nn.Module,
    query: Float[Tensor, "batch heads queries size"],
    key: Float[Tensor, "batch key_heads keys size"],
    value: Float[Tensor, "batch key_heads keys value_size"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "batch queries heads value_size"], None]:
    """What transformers calls for each layer.

    Args:
        module: the layer, which is not asked.
        query: heads of all positions of the row.
        key: the same; fewer heads where several queries share one.
        value: as `key`.
        attention_mask: from `as_mask`, or a mask that transformers made (None: causal).
        dropout: of attention weights.
        scaling: multiplies the scores; None: one over the root of the head's size.
        sliding_window: only keys less than this many positions away are seen.
        softcap: bounds the scores (Gemma 2).
        _: whatever else a family passes, of no meaning here.
    """

    def attended(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        if softcap is not None:
            return _written_out(queries, keys, values, mask, dropout=dropout, scaling=scaling, softcap=softcap)
        return scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None and queries.shape[2] > 1,
            scale=scaling,
            enable_gqa=queries.shape[1] != keys.shape[1],
        )

    if attention_mask is None or attention_mask.dtype != torch.int64:
        return attended(query, key, value, attention_mask).transpose(1, 2).contiguous(), None
    parts: list[Tensor] = []
    for prompt, own in _asked(attention_mask[0, 0].tolist()):
        length, before = own.stop - own.start, prompt.stop - prompt.start
        keys, values = key[:, :, own], value[:, :, own]
        if before:
            keys = torch.cat([key[:, :, prompt], keys], dim=2)
            values = torch.cat([value[:, :, prompt], values], dim=2)
        mask = None
        if before or (sliding_window is not None and length > sliding_window):
            mask = causal_mask(length, before=before, window=sliding_window, device=query.device)
        parts.append(attended(query[:, :, own], keys, values, mask))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def causal_mask(length: int, *, before: int, window: int | None, device: torch.device) -> Bool[Tensor, "queries keys"]:
    """Who sees whom: each query every key up to its own, which stands `before` places further on; and in its window."""
    sees = torch.ones((length, before + length), dtype=torch.bool, device=device).tril_(before)
    return sees if window is None else sees.triu_(before - window + 1)


def _asked(runs: list[list[int]]) -> Iterator[tuple[slice, slice]]:
    """(the prompt's places, the places that ask) of each stretch of a row; a prompt asks with what follows it."""
    prompt = own = slice(0, 0)
    for branch, length in runs:
        place = slice(own.stop, own.stop + length)
        if branch == 0:
            if own.stop > own.start:
                yield slice(0, 0), own
            prompt = own = place
        elif own == prompt:
            own = slice(prompt.start, place.stop)
            yield slice(0, 0), own
            own = slice(place.stop, place.stop)
        else:
            yield prompt, place
            own = slice(place.stop, place.stop)
    if own.stop > own.start:
        yield slice(0, 0), own


def _written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    dropout: float,
    scaling: float | None,
    softcap: float,
) -> Tensor:
    """Attention whose scores are bounded, which PyTorch's fused kernels do not know."""
    shared = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = causal_mask(query.shape[2], before=key.shape[2] - query.shape[2], window=None, device=query.device)
    unseen = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(~mask, unseen) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores.float(), dim=-1).to(query.dtype)
    return torch.nn.functional.dropout(weights, p=dropout) @ value
