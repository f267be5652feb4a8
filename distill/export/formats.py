"""Every format a student can be exported to, in one table."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from distill.export.bitsandbytes import write_bitsandbytes
from distill.export.gguf import FileType, write_gguf
from distill.export.merge import write_merged
from distill.export.smoke import Runtime
from distill.models import DtypeName, Quantization

MERGED = "safetensors"


@dataclass(frozen=True)
class ExportFormat:
    """How a format is written and held against the model it was made from.

    `write(source, folder, dtype)` returns what it has to report; `model_file` is what the runtime is given.
    `min_same_text` is the share of greedy answers that must stay the same: a broken conversion keeps none.
    """

    description: str
    runtime: Runtime
    write: Callable[[Path, Path, DtypeName], Mapping[str, object]]
    model_file: str
    min_same_text: float


def _safetensors(source: Path, folder: Path, dtype: DtypeName) -> Mapping[str, object]:
    return asdict(write_merged(source, folder, dtype=dtype))


def _bnb(source: Path, folder: Path, dtype: DtypeName, *, quantization: Quantization) -> Mapping[str, object]:
    return {"reload_delta": write_bitsandbytes(source, folder, quantization=quantization)}


def _gguf(source: Path, folder: Path, dtype: DtypeName, *, file_type: FileType) -> Mapping[str, object]:
    report = write_gguf(source, folder / f"model-{file_type}.gguf", file_type=file_type)
    return {"num_tensors_by_type": report.num_tensors_by_type, "bits_per_weight": report.bits_per_weight}


def _gguf_format(file_type: FileType, description: str, *, min_same_text: float) -> ExportFormat:
    write = partial(_gguf, file_type=file_type)
    return ExportFormat(f"GGUF, {description}", "llama.cpp", write, f"model-{file_type}.gguf", min_same_text)


FORMATS: dict[str, ExportFormat] = {
    MERGED: ExportFormat("merged weights in safetensors", "transformers", _safetensors, ".", 0.5),
    "bnb-nf4": ExportFormat(
        "bitsandbytes 4-bit NormalFloat", "transformers", partial(_bnb, quantization="nf4"), ".", 0.0
    ),
    "bnb-int8": ExportFormat(
        "bitsandbytes 8-bit integers", "transformers", partial(_bnb, quantization="int8"), ".", 0.2
    ),
    "gguf-f32": _gguf_format("f32", "float32", min_same_text=0.5),
    "gguf-f16": _gguf_format("f16", "float16", min_same_text=0.5),
    "gguf-bf16": _gguf_format("bf16", "bfloat16", min_same_text=0.5),
    "gguf-q8_0": _gguf_format("q8_0", "8 bits and a scale for each 32 weights", min_same_text=0.2),
    "gguf-q5_1": _gguf_format("q5_1", "5 bits, a scale and an offset for each 32 weights", min_same_text=0.0),
    "gguf-q5_0": _gguf_format("q5_0", "5 bits and a scale for each 32 weights", min_same_text=0.0),
    "gguf-q4_1": _gguf_format("q4_1", "4 bits, a scale and an offset for each 32 weights", min_same_text=0.0),
    "gguf-q4_0": _gguf_format("q4_0", "4 bits and a scale for each 32 weights", min_same_text=0.0),
}
