"""The teacher's output head, stored once beside the shards, in the head's own dtype."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from distill.files import replacing_file
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.shard import damaged

HEAD_FORMAT = "distill-output-head"
HEAD_VERSION = 1

_FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


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
        CacheError: the file is missing, cut off, or its shapes or numbers are not the manifest's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except FileNotFoundError as error:
        raise damaged(path, "the file is missing") from error
    except (OSError, SafetensorError) as error:
        raise damaged(path, f"the file cannot be opened: {error}") from error
    logit_scale, soft_cap = _numbers(path, metadata)
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if not tensors.keys() <= {"weight", "bias"} or weight is None or weight.dtype not in _FLOAT_DTYPES:
        raise damaged(path, f"it holds {', '.join(sorted(tensors))}, not a weight and at most a bias")
    if list(weight.shape) != [vocab_size, hidden_size]:
        raise damaged(path, f"weight has shape {list(weight.shape)}, not {[vocab_size, hidden_size]}")
    if bias is not None and (list(bias.shape) != [vocab_size] or bias.dtype not in _FLOAT_DTYPES):
        raise damaged(path, f"bias has shape {list(bias.shape)}, not {[vocab_size]}")
    return OutputHead(weight, bias, logit_scale, soft_cap)


def head_size_bytes(head: OutputHead) -> int:
    """Bytes of the head's tensors."""
    return sum(tensor.nbytes for tensor in (head.weight, head.bias) if tensor is not None)


def _numbers(path: Path, metadata: Mapping[str, str] | None) -> tuple[float, float | None]:
    try:
        header = json.loads((metadata or {})["distill"])
        kind, logit_scale, soft_cap = (header["format"], header["version"]), header["logit_scale"], header["soft_cap"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise damaged(path, "it is not an output head") from error
    if kind != (HEAD_FORMAT, HEAD_VERSION):
        raise damaged(path, f"its header says {kind!r:.80}")
    if not _is_finite(logit_scale) or not (soft_cap is None or (_is_finite(soft_cap) and soft_cap > 0)):
        raise damaged(path, f"logit_scale is {logit_scale!r} and soft_cap {soft_cap!r}")
    return float(logit_scale), None if soft_cap is None else float(soft_cap)


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
