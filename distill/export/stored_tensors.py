"""What an artefact's files hold for each of the merged model's tensors, as the numbers they stand for."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor

from distill.errors import ExportError
from distill.export.gguf_layout import gguf_name, layout_of, with_rows_for_llama_cpp
from distill.export.packed_weights import read_packed
from distill.export.safetensors_header import tensors_of
from distill.files import read_json

_PLAIN = ("F64", "F32", "F16", "BF16")
_NF4_STATE = "quant_state.bitsandbytes__nf4"
_LARGEST_INT8 = 127.0


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of the merged model as an artefact stores it.

    `size_bytes` counts everything that belongs to it: scales, offsets and codebooks too. `values` are the numbers the
    artefact stands for, beside the `original` ones in the same order; None where the format is read by its own
    runtime only.
    """

    name: str
    type: str
    num_weights: int
    size_bytes: int
    original: Float[Tensor, "..."]
    values: Float[Tensor, "..."] | None


def stored_tensors(path: Path, *, merged_folder: Path) -> Iterator[StoredTensor]:
    """Every tensor of the merged model as the artefact at `path` stores it, sorted by name; one is in memory at a time.

    Args:
        path: a folder of safetensors files, or a .gguf file.
        merged_folder: the checkpoint it was made from.

    Raises:
        ExportError: the artefact holds nothing for one of the tensors.
    """
    if path.suffix == ".gguf":
        yield from _of_gguf(path, merged_folder)
    else:
        yield from _of_folder(path, merged_folder)


@dataclass(frozen=True)
class _Entry:
    """One tensor of a safetensors file, still on disk."""

    name: str
    file: Path
    dtype: str
    num_weights: int
    size_bytes: int

    def load(self) -> Tensor:
        with safe_open(self.file, framework="pt") as handle:
            tensor: Tensor = handle.get_tensor(self.name)
        return tensor


def _entries(folder: Path) -> dict[str, _Entry]:
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, entry in tensors_of(file).items():
            first, last = entry["data_offsets"]
            found[name] = _Entry(name, file, entry["dtype"], math.prod(entry["shape"]), last - first)
    return dict(sorted(found.items()))


def _of_folder(folder: Path, merged_folder: Path) -> Iterator[StoredTensor]:
    merged, stored = _entries(merged_folder), _entries(folder)
    quantization = _quantization(folder)
    for name, original in merged.items():
        module = name.removesuffix("weight")
        is_weight = module != name
        parts = {
            other: entry
            for other, entry in stored.items()
            if other == name or (is_weight and other.startswith(module) and other not in merged)
        }
        if not parts:
            raise _nothing_for(name, folder)
        values = original.load().float()
        readers = {part.removeprefix(module): entry.load for part, entry in parts.items()}
        packed = None if len(parts) == 1 else read_packed(readers, quantization)
        yield StoredTensor(
            name=name,
            type=_type_of(name, parts, quantization) if packed is None else packed.type,
            num_weights=original.num_weights,
            size_bytes=sum(part.size_bytes for part in parts.values()),
            original=values,
            values=_numbers(name, parts, tuple(values.shape)) if packed is None else packed.numbers(),
        )


def _quantization(folder: Path) -> Mapping[str, object]:
    """What the configuration says of how weights are packed."""
    path = folder / "config.json"
    told = read_json(path).get("quantization_config") if path.exists() else None
    return told if isinstance(told, dict) else {}


def _type_of(name: str, parts: Mapping[str, _Entry], quantization: Mapping[str, object]) -> str:
    own = parts.get(name)
    if own is not None and len(parts) == 1 and own.dtype in _PLAIN:
        return own.dtype
    if f"{name}.{_NF4_STATE}" in parts:
        return "NF4"
    if own is not None and own.dtype in ("I8", "F8_E4M3", "F8_E5M2"):
        return own.dtype
    return str(quantization.get("quant_method", "packed"))


def _numbers(name: str, parts: Mapping[str, _Entry], shape: tuple[int, ...]) -> Tensor | None:
    own, scales = parts.get(name), parts.get(f"{name.removesuffix('weight')}SCB")
    if own is None:
        return None
    if len(parts) == 1 and own.dtype in _PLAIN:
        return own.load().float()
    if own.dtype == "I8" and scales is not None:
        return own.load().float() * (scales.load().float() / _LARGEST_INT8).unsqueeze(-1)
    if f"{name}.{_NF4_STATE}" in parts:
        from bitsandbytes.functional import QuantState, dequantize_4bit

        state = {part.removeprefix(f"{name}."): entry.load() for part, entry in parts.items() if part != name}
        quantized = QuantState.from_dict(state, device=torch.device("cpu"))
        whole: Tensor = dequantize_4bit(own.load(), quantized)
        return whole.float().reshape(shape)
    return None


def _of_gguf(path: Path, merged_folder: Path) -> Iterator[StoredTensor]:
    layout = layout_of(read_json(merged_folder / "config.json"))
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, entry in _entries(merged_folder).items():
        if name == "lm_head.weight" and layout.has_tied_head:
            continue
        tensor = stored.get(gguf_name(name, layout))
        if tensor is None:
            raise _nothing_for(name, path)
        original = torch.from_numpy(with_rows_for_llama_cpp(entry.load().float().numpy(), name, layout))
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        yield StoredTensor(
            name=name,
            type=tensor.tensor_type.name,
            num_weights=entry.num_weights,
            size_bytes=int(tensor.n_bytes),
            original=original,
            values=torch.from_numpy(values.astype("float32")).reshape(original.shape),
        )


def _nothing_for(name: str, path: Path) -> ExportError:
    return ExportError(
        f"{path} holds nothing for tensor {name}", why="the merged model has it", fix="export the format again"
    )
