"""Whether the disk has room for an export, before anything is written."""

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from distill.errors import ExportError
from distill.export.tensor_files import TensorFiles
from distill.models import DtypeName, find_source
from distill.models.source import adapter_base

# Bits per weight of matrices inside the layers, and of embedding and head, with scales and offsets.
_BITS = {
    "bnb-nf4": (4.5, 32.0),
    "bnb-int8": (8.25, 32.0),
    "torchao-int8": (9.0, 32.0),
    "auto-round-w4a16": (6.0, 32.0),
    "compressed-w4a16": (6.0, 32.0),
    "compressed-w8a8": (9.0, 32.0),
    "compressed-fp8": (9.0, 32.0),
    "gguf-f32": (32.0, 32.0),
    "gguf-f16": (16.0, 16.0),
    "gguf-bf16": (16.0, 16.0),
    "gguf-q8_0": (8.5, 8.5),
    "gguf-q6_k": (6.5625, 8.5),
    "gguf-q5_1": (6.0, 8.5),
    "gguf-q5_0": (5.5, 8.5),
    "gguf-q5_k_m": (6.5625, 8.5),
    "gguf-q4_1": (5.0, 8.5),
    "gguf-q4_0": (4.5, 8.5),
    "gguf-q4_k_m": (6.5625, 8.5),
}
_DTYPE_BITS: dict[str, float] = {"float32": 32.0, "float16": 16.0, "bfloat16": 16.0}
_WIDEST = (32.0, 32.0)
_MERGED = "safetensors"
_BLOCK, _K_BLOCK, _K_FALLBACK_BITS = 32, 256, 8.5
_PAPERS_BYTES = 1 << 20


def needed_bytes(model_folder: Path, formats: Sequence[str], *, dtype: DtypeName) -> dict[str, int]:
    """An upper bound of each artefact's size, from the shapes in the checkpoint's headers.

    A format without a row of its own, such as one that a scheme decides, counts as float32. K-quants take up to
    6.6 bits per weight, as their widest rows do, and 8.5 where no block of 256 weights divides a row.

    Args:
        model_folder: a model, or LoRA adapters, whose base is what is written.
        formats: their names.
        dtype: of the merged weights.

    Raises:
        ModelError: there is no model, or it is damaged.
    """
    folder = _base_folder(model_folder)
    shapes = {name: tensor.shape for name, tensor in TensorFiles(folder).shapes.items()}
    other = sum(path.stat().st_size for path in folder.iterdir() if path.is_file() and path.suffix != ".safetensors")
    merged = (_DTYPE_BITS[dtype], _DTYPE_BITS[dtype])
    sizes = {}
    for name in dict.fromkeys(formats):
        inner, outer = merged if name == _MERGED else _BITS.get(name, _WIDEST)
        is_k = "_k" in name
        bits = sum(_bits(tensor, shape, inner=inner, outer=outer, is_k=is_k) for tensor, shape in shapes.items())
        sizes[name] = math.ceil(bits / 8) + other + _PAPERS_BYTES
    return sizes


def scratch_bytes(model_folder: Path, formats: Sequence[str]) -> int:
    """What is written on the way and removed: llama.cpp's quantizer reads a whole unquantized file."""
    if not any("_k" in name for name in formats):
        return 0
    return needed_bytes(model_folder, ["gguf-f32"], dtype="float32")["gguf-f32"]


def require_disk(
    needed: Mapping[str, int], output_dir: Path, *, scratch: int = 0, free_bytes: int | None = None
) -> None:
    """Refuses an export that the disk has no room for.

    Args:
        needed: bytes of each artefact that is to be written.
        output_dir: where to; it need not exist.
        scratch: bytes needed for a while.
        free_bytes: of the disk; None asks it.

    Raises:
        ExportError: lists what each format needs.
    """
    free = shutil.disk_usage(_nearest(output_dir)).free if free_bytes is None else free_bytes
    total = sum(needed.values()) + scratch
    if total <= free:
        return
    parts = [f"{name} {size / 1e9:.2f} GB" for name, size in needed.items()]
    if scratch:
        parts.append(f"{scratch / 1e9:.2f} GB on the way")
    raise ExportError(
        f"{output_dir} has {free / 1e9:.2f} GB free, the export needs up to {total / 1e9:.2f} GB",
        why=", ".join(parts),
        fix="free space, choose another folder, or ask for fewer formats at a time: finished ones are kept",
    )


def _base_folder(model_folder: Path) -> Path:
    source = find_source(model_folder)
    while source.kind == "adapter":
        source = find_source(adapter_base(source))
    return source.folder if source.folder.is_dir() else source.folder.parent


def _bits(name: str, shape: tuple[int, ...], *, inner: float, outer: float, is_k: bool) -> float:
    """Norms and biases stay float32, and so, at most, does a row that no block divides: it is stored as float16."""
    if len(shape) < 2:
        return 32.0 * math.prod(shape)
    bits = outer if name.endswith(("embed_tokens.weight", "lm_head.weight")) else inner
    if is_k and shape[-1] % _K_BLOCK:
        bits = max(bits, _K_FALLBACK_BITS)
    return math.prod(shape) * (bits if shape[-1] % _BLOCK == 0 else max(bits, 16.0))


def _nearest(path: Path) -> Path:
    """The folder itself or the nearest one above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
