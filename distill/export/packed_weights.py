"""The numbers that the packed tensors of torchao, auto-round and compressed-tensors stand for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_NIBBLES = 8
_SIGNED_OFFSET = 8

# What stands for one weight beside it: a part's name without the module's ("scales"), and what reads it.
Parts = Mapping[str, Callable[[], Tensor]]


@dataclass(frozen=True)
class Packed:
    """A weight's type as a report names it, and what gives its numbers."""

    type: str
    numbers: Callable[[], Float[Tensor, "rows columns"]]


def read_packed(parts: Parts, quantization: Mapping[str, object]) -> Packed | None:
    """How the parts of one weight are to be read; None where the format is not known here.

    Args:
        parts: all tensors of the module but those that the merged model has too.
        quantization: the configuration's quantization_config.
    """
    names = set(parts)
    if {"_weight_qdata", "_weight_scale"} <= names:
        return Packed("I8", lambda: _torchao(parts))
    if {"qweight", "qzeros", "scales"} <= names and quantization.get("bits") == 4:
        offset = 1 if str(quantization.get("packing_format", "")).endswith("auto_gptq") else 0
        return Packed("INT4", lambda: _auto_round(parts, offset=offset))
    if {"weight_packed", "weight_scale", "weight_shape"} <= names and "weight_zero_point" not in names:
        columns, words = (int(size) for size in (parts["weight_shape"]()[1], parts["weight_packed"]().shape[1]))
        if columns == words * _NIBBLES:
            return Packed("INT4", lambda: _compressed_int4(parts))
        return None
    if {"weight", "weight_scale"} == names:
        return Packed("F8_E4M3" if parts["weight"]().is_floating_point() else "I8", lambda: _compressed_8(parts))
    return None


def _torchao(parts: Parts) -> Float[Tensor, "rows columns"]:
    values = parts["_weight_qdata"]().float()
    if "_weight_zero_point" in parts:
        values = values - _spread(parts["_weight_zero_point"]().float(), values)
    return values * _spread(parts["_weight_scale"]().float(), values)


def _auto_round(parts: Parts, *, offset: int) -> Float[Tensor, "rows columns"]:
    """AutoGPTQ's layout: eight nibbles a word along a row of weights, all transposed; zero points less `offset`.

    The product with a scale is rounded to the scale's half precision, as the runtime rounds it.
    """
    scales = parts["scales"]()
    levels = nibbles(parts["qweight"](), axis=0).t()
    zeros = nibbles(parts["qzeros"](), axis=1).t() + offset
    centred = levels - _spread(zeros, levels)
    return (_spread(scales.t(), levels) * centred.to(scales.dtype)).float()


def _compressed_int4(parts: Parts) -> Float[Tensor, "rows columns"]:
    levels = nibbles(parts["weight_packed"](), axis=1) - _SIGNED_OFFSET
    return levels.float() * _spread(parts["weight_scale"]().float(), levels)


def _compressed_8(parts: Parts) -> Float[Tensor, "rows columns"]:
    levels = parts["weight"]().float()
    return levels * _spread(parts["weight_scale"]().float(), levels)


def nibbles(words: Int[Tensor, "rows columns"], *, axis: int) -> Int[Tensor, "more_rows more_columns"]:
    """Each 32-bit word as its eight 4-bit numbers, lowest first, along `axis`."""
    shifts = torch.arange(0, 32, 4, dtype=torch.int32)
    spread = (words.unsqueeze(-1) >> shifts) & 0xF
    return spread.flatten(1) if axis == 1 else spread.transpose(1, 2).flatten(0, 1)


def _spread(of_groups: Tensor, values: Tensor) -> Tensor:
    """One number a group of a row, repeated for each of its weights."""
    return of_groups.repeat_interleave(values.shape[1] // of_groups.shape[1], dim=1)
