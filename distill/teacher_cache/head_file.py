"""The teacher's output head, stored once beside the shards, in the head's own dtype."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from distill.files import replacing_file
from distill.numerics import widened
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.cache_file import check_header_size, damaged

HEAD_FORMAT = "distill-output-head"
HEAD_VERSION = 1

_FLOAT_DTYPES = ("F32", "BF16", "F16", "F64")


def write_head(path: Path, head: OutputHead) -> None:
    """Writes weight, bias, logit scale and soft-cap, whole or not at all."""
    tensors = {"weight": head.weight.detach().cpu().contiguous()}
    if head.bias is not None:
        tensors["bias"] = head.bias.detach().cpu().contiguous()
    header = {
        "format": HEAD_FORMAT,
        "version": HEAD_VERSION,
        "logit_scale": head.logit_scale,
        "soft_cap": head.soft_cap,
    }
    content = save(tensors, metadata={"distill": json.dumps(header)})
    with replacing_file(path) as partial:
        partial.write_bytes(content)


def read_head(path: Path, *, vocab_size: int, hidden_size: int) -> OutputHead:
    """Reads the head, memory-mapped.

    Raises:
        CacheError: the file is missing, cut off, its shapes are not the manifest's, or its numbers not finite.
    """
    check_header_size(path)
    try:
        with safe_open(path, framework="pt") as opened:
            file: Any = opened
            metadata, names = file.metadata(), set(file.keys())
            if "weight" not in names or not names <= {"weight", "bias"}:
                raise damaged(path, f"it holds {', '.join(sorted(names))}, not a weight and at most a bias")
            for name in names:
                _check_tensor(path, name, file.get_slice(name), vocab_size=vocab_size, hidden_size=hidden_size)
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise damaged(path, f"the file cannot be opened: {error}") from error
    logit_scale, soft_cap = _numbers(path, metadata)
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise damaged(path, "it holds numbers that are not finite")
    return OutputHead(tensors["weight"], tensors.get("bias"), logit_scale, soft_cap)


def float_head(head: OutputHead) -> OutputHead:
    """The head with its tensors widened once, instead of once per product."""
    bias = None if head.bias is None else widened(head.bias)
    return OutputHead(widened(head.weight), bias, head.logit_scale, head.soft_cap)


def head_size_bytes(head: OutputHead) -> int:
    """Bytes of the head's tensors."""
    return sum(tensor.nbytes for tensor in (head.weight, head.bias) if tensor is not None)


def _check_tensor(path: Path, name: str, header: Any, *, vocab_size: int, hidden_size: int) -> None:
    dtype, shape = header.get_dtype(), list(header.get_shape())
    expected = [vocab_size, hidden_size] if name == "weight" else [vocab_size]
    if dtype not in _FLOAT_DTYPES:
        raise damaged(path, f"{name} is {dtype}, not one of {', '.join(_FLOAT_DTYPES)}")
    if shape != expected:
        raise damaged(path, f"{name} has shape {shape}, not {expected}")


def _numbers(path: Path, metadata: Mapping[str, str] | None) -> tuple[float, float | None]:
    try:
        header = json.loads((metadata or {})["distill"])
        kind, logit_scale, soft_cap = (header["format"], header["version"]), header["logit_scale"], header["soft_cap"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path, "it is not an output head") from error
    if kind != (HEAD_FORMAT, HEAD_VERSION):
        raise damaged(path, f"its header says {kind!r:.80}")
    if not _is_finite(logit_scale) or not (soft_cap is None or (_is_finite(soft_cap) and soft_cap > 0)):
        raise damaged(path, f"logit_scale is {logit_scale!r} and soft_cap {soft_cap!r}")
    return float(logit_scale), None if soft_cap is None else float(soft_cap)


def _is_finite(value: object) -> bool:
    """Whether a value of JSON is a number that a float64 holds; JSON's whole numbers may be of any size."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max
