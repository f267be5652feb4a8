"""Tensors of safetensors files, read and written one at a time: no more than one of them is ever in memory."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from torch import Tensor

from distill.errors import ExportError, ModelError
from distill.export.safetensors_header import METADATA, header_bytes, tensors_of
from distill.files import read_json, write_json
from distill.models import DTYPES, DtypeName

MAX_SHARD_BYTES = 2_000_000_000
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPE_CODES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in DTYPE_CODES.items()}


@dataclass(frozen=True)
class TensorShape:
    """What a file's header says of one tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Of the values alone."""
        return math.prod(self.shape) * self.dtype.itemsize

    def cast_to(self, dtype: torch.dtype) -> "TensorShape":
        """The same values as another floating type; what counts or indexes stays as it is."""
        return TensorShape(dtype, self.shape) if self.dtype.is_floating_point else self


class TensorFiles:
    """The tensors of a folder's safetensors files, by name; only headers are read until one is asked for."""

    def __init__(self, folder: Path, *, pattern: str = "*.safetensors") -> None:
        """Reads the headers of the files that the index names, or else of all that fit `pattern`.

        Raises:
            ModelError: a tensor has a dtype that is no plain number, such as float8.
        """
        self.shapes: dict[str, TensorShape] = {}
        self._files: dict[str, Path] = {}
        index = folder / INDEX
        if index.exists():
            weight_map = read_json(index).get("weight_map")
            files = sorted({folder / str(name) for name in weight_map.values()} if isinstance(weight_map, dict) else ())
        else:
            files = sorted(folder.glob(pattern))
        for file in files:
            for name, entry in tensors_of(file).items():
                if entry["dtype"] not in DTYPE_CODES:
                    raise ModelError(
                        f"{file}: tensor {name} is stored as {entry['dtype']}",
                        why="its values alone do not say which numbers it stands for",
                        fix="use the model it was made from, before it was quantized",
                    )
                self.shapes[name] = TensorShape(DTYPE_CODES[entry["dtype"]], tuple(entry["shape"]))
                self._files[name] = file

    def load(self, name: str) -> Tensor:
        """One tensor as it is stored; its pages of the file leave memory when it does."""
        with safe_open(self._files[name], framework="pt") as handle:
            tensor: Tensor = handle.get_tensor(name)
        return tensor


def stored_dtype(folder: Path) -> DtypeName:
    """The one dtype of all floating tensors in `folder`; float32 where there are several."""
    dtypes = {shape.dtype for shape in TensorFiles(folder).shapes.values()}
    return one_dtype({dtype for dtype in dtypes if dtype.is_floating_point})


def one_dtype(dtypes: set[torch.dtype]) -> DtypeName:
    """The name of the only one; float32 where there are several, or where models are not held in it."""
    return cast(DtypeName, next((name for name, dtype in DTYPES.items() if dtypes == {dtype}), "float32"))


def write_tensor_files(
    folder: Path,
    shapes: Mapping[str, TensorShape],
    load: Callable[[str], Tensor],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes tensors to model.safetensors, or to numbered shards and their index where one file would be too large.

    Equal tensors give equal bytes. A tensor is asked for when its turn comes, and dropped when it is written.

    Args:
        shapes: what each tensor will be; a header stands before the values it describes.
        load: a tensor by name.
        max_shard_bytes: of a file's values; a tensor that is larger has a file of its own.

    Raises:
        ExportError: a tensor is another than its shape says.
    """
    shards = _shards(shapes, max_shard_bytes)
    if len(shards) == 1:
        _write_file(folder / WEIGHTS, shards[0], shapes, load)
        return
    files = {f"model-{number:05d}-of-{len(shards):05d}.safetensors": shard for number, shard in enumerate(shards, 1)}
    for file_name, names in files.items():
        _write_file(folder / file_name, names, shapes, load)
    total = sum(shape.size_bytes for shape in shapes.values())
    weight_map = {name: file_name for file_name, names in files.items() for name in names}
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(shapes: Mapping[str, TensorShape], max_shard_bytes: int) -> list[list[str]]:
    """Names in the order of their files: widest dtype first, so that every tensor starts at a multiple of its width."""
    shards: list[list[str]] = [[]]
    size_bytes = 0
    for name in sorted(shapes, key=lambda name: (-shapes[name].dtype.itemsize, name)):
        size_bytes += shapes[name].size_bytes
        if shards[-1] and size_bytes > max_shard_bytes:
            shards.append([])
            size_bytes = shapes[name].size_bytes
        shards[-1].append(name)
    return shards


def _write_file(path: Path, names: list[str], shapes: Mapping[str, TensorShape], load: Callable[[str], Tensor]) -> None:
    header: dict[str, object] = {METADATA: {"format": "pt"}}
    for name, first, last in _offsets(names, shapes):
        shape = shapes[name]
        header[name] = {"dtype": _CODES[shape.dtype], "shape": list(shape.shape), "data_offsets": [first, last]}
    with path.open("wb") as stream:
        stream.write(header_bytes(header))
        for name in names:
            tensor = load(name)
            if TensorShape(tensor.dtype, tuple(tensor.shape)) != shapes[name]:
                raise ExportError(
                    f"tensor {name} is {tensor.dtype} {tuple(tensor.shape)}, not {shapes[name]}",
                    why="the file's header says otherwise",
                    fix="check the adapters against the base they were trained on",
                )
            stream.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _offsets(names: list[str], shapes: Mapping[str, TensorShape]) -> Iterator[tuple[str, int, int]]:
    first = 0
    for name in names:
        last = first + shapes[name].size_bytes
        yield name, first, last
        first = last
