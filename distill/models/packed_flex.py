"""Packed completions by FlexAttention: one kernel a layer where the row's whole mask would be as wide as the row.

What each query sees follows from the runs; blocks of the row that see nothing of each other are never computed. The
forward pass is checked on a CPU, where FlexAttention runs uncompiled; its backward pass exists on GPUs only, so that
`agrees_with_runs` tries both there before a model keeps it: a GPU's kernels are held by that check alone.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.models.packed_attention import Attention, as_mask, packed_attention

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

NAME = "distill_packed_flex"
PROBE_RUNS = ((0, 70), (1, 90), (2, 40), (0, 5), (1, 130))
_TOLERANCE = {torch.float32: 1e-2, torch.bfloat16: 5e-2, torch.float16: 2e-2}
"""Of the largest number; on GPUs float32 products may run in TF32."""


def flex_attention_by_runs(
    module: torch.nn.Module,
    query: Float[Tensor, "batch heads queries size"],
    key: Float[Tensor, "batch key_heads keys size"],
    value: Float[Tensor, "batch key_heads keys value_size"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "batch queries heads value_size"], None]:
    """`packed_attention` in one kernel, arguments and result alike.

    What FlexAttention cannot do (dropout of weights) and what is no packed row goes to `packed_attention` itself.
    """
    if attention_mask is None or attention_mask.dtype != torch.int64 or dropout > 0.0:
        return packed_attention(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            sliding_window=sliding_window,
            softcap=softcap,
            **others,
        )
    runs = tuple((branch, length) for branch, length in attention_mask[0, 0].tolist())
    found: Tensor = _kernel(query.device.type)(
        query,
        key,
        value,
        score_mod=None if softcap is None else _bounded(softcap),
        block_mask=block_mask(runs, window=sliding_window, device=query.device),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return found.transpose(1, 2).contiguous(), None


@functools.lru_cache(maxsize=4)
def block_mask(runs: tuple[tuple[int, int], ...], *, window: int | None, device: torch.device) -> "BlockMask":
    """Which blocks of a row see which: made once for all layers of a pass, and of its recomputation.

    Args:
        runs: (branch, length) of a row's runs.
        window: only keys less than this many positions away are seen.
        device: where the row is read.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    group, branch, position = (places.to(device) for places in places_of(runs))

    is_compiled = device.type == "cuda"  # else the mask would be made as wide as the row first
    reach = len(group) if window is None else window
    return create_block_mask(
        lambda _batch, _head, query, key: (
            (query >= key)
            & (group[query] == group[key])
            & ((branch[key] == 0) | (branch[key] == branch[query]))
            & (position[query] - position[key] < reach)
        ),
        None,
        None,
        len(group),
        len(group),
        device=device,
        _compile=is_compiled,
    )


def places_of(
    runs: tuple[tuple[int, int], ...],
) -> tuple[Int[Tensor, " places"], Int[Tensor, " places"], Int[Tensor, " places"]]:
    """Group, branch and position of each place of a row; a completion's positions go on from its prompt's."""
    group, prompt = -1, 0
    groups: list[int] = []
    branches: list[int] = []
    positions: list[int] = []
    for branch, length in runs:
        if branch == 0:
            group, prompt = group + 1, length
        start = 0 if branch == 0 else prompt
        groups += [group] * length
        branches += [branch] * length
        positions += range(start, start + length)
    return torch.tensor(groups), torch.tensor(branches), torch.tensor(positions)


def agrees_with_runs(
    *, num_heads: int, num_key_heads: int, head_size: int, dtype: torch.dtype, device: torch.device
) -> bool:
    """Whether the kernel gives the outputs and gradients of `packed_attention` for heads like these, on this device.

    Raises:
        RuntimeError: it cannot be compiled or run here.
    """
    length = sum(own for _, own in PROBE_RUNS)
    draw = torch.Generator().manual_seed(0)
    shapes = [(1, heads, length, head_size) for heads in (num_heads, num_key_heads, num_key_heads, num_heads)]
    *tensors, direction = (torch.randn(shape, generator=draw).to(device, dtype) for shape in shapes)
    mask = as_mask(torch.tensor(PROBE_RUNS))
    results = []
    attentions: tuple[Attention, ...] = (packed_attention, flex_attention_by_runs)
    for attend in attentions:
        leaves = [tensor.detach().requires_grad_() for tensor in tensors]
        with torch.enable_grad():
            found, _ = attend(torch.nn.Identity(), *leaves, mask, sliding_window=100)
            gradients = torch.autograd.grad((found.transpose(1, 2) * direction).sum(), leaves)
        results.append([found.detach(), *gradients])
    return all(
        bool((one - other).abs().max() <= _TOLERANCE[dtype] * one.abs().max())
        for one, other in zip(*results, strict=True)
    )


@functools.lru_cache(maxsize=2)
def _kernel(device_type: str) -> Callable[..., Any]:
    """Compiled on GPUs, for rows of any length."""
    from torch.nn.attention.flex_attention import flex_attention

    kernel: Callable[..., Any] = flex_attention
    return torch.compile(kernel, dynamic=True) if device_type == "cuda" else kernel


@functools.lru_cache(maxsize=8)
def _bounded(softcap: float) -> Callable[..., Tensor]:
    """One function a soft-cap, so that the kernel is compiled once."""

    return lambda score, _batch, _head, _query, _key: softcap * torch.tanh(score / softcap)
