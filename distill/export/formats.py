"""Every format a student can be exported to, in one table."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from distill.export.auto_round import write_auto_round
from distill.export.bitsandbytes import write_bitsandbytes
from distill.export.gguf import FileType, write_gguf
from distill.export.k_quants import KQuant, write_k_quant
from distill.export.llm_compressor import Scheme, require_llm_compressor, write_llm_compressor
from distill.export.merge import write_merged
from distill.export.smoke import Runtime
from distill.export.torchao import write_torchao
from distill.export.writing import Writing
from distill.extras import AUTO_ROUND, LLAMA_CPP, TORCHAO, Extra
from distill.models import Quantization

MERGED = "safetensors"


@dataclass(frozen=True)
class ExportFormat:
    """How a format is written and held against the model it was made from.

    `write(source, folder, how)` returns what it has to report; `model_file` is what the runtime is given.
    `min_same_text` is the share of greedy answers that must stay the same: a broken conversion keeps none.
    `max_next_token_kl` bounds the runtime's mean KL in nats where rounding alone stays far below it: Q and K in the
    wrong order cost tiny random models 0.1. `extra` is the package that writes it, where an installation may lack it;
    `probe` refuses the format where something else is missing.
    """

    description: str
    runtime: Runtime
    write: Callable[[Path, Path, Writing], Mapping[str, object]]
    model_file: str
    min_same_text: float
    max_next_token_kl: float | None = None
    extra: Extra | None = None
    probe: Callable[[Writing], None] | None = None

    def require(self, name: str, how: Writing) -> None:
        """Refuses the format before any work where what writes it is missing.

        Raises:
            RecipeError: says how to install it.
        """
        if self.extra is not None:
            self.extra.require(f"format {name}")
        if self.probe is not None:
            self.probe(how)


def _safetensors(source: Path, folder: Path, how: Writing) -> Mapping[str, object]:
    return asdict(write_merged(source, folder, dtype=how.dtype))


def _bnb(source: Path, folder: Path, how: Writing, *, quantization: Quantization) -> Mapping[str, object]:
    return {"reload_delta": write_bitsandbytes(source, folder, quantization=quantization)}


def _gguf(source: Path, folder: Path, how: Writing, *, file_type: FileType) -> Mapping[str, object]:
    report = write_gguf(source, folder / f"model-{file_type}.gguf", file_type=file_type)
    return {"num_tensors_by_type": report.num_tensors_by_type, "bits_per_weight": report.bits_per_weight}


def _k_quant(source: Path, folder: Path, how: Writing, *, file_type: KQuant) -> Mapping[str, object]:
    report = asdict(write_k_quant(source, folder / f"model-{file_type}.gguf", file_type=file_type))
    return {name: value for name, value in report.items() if name not in ("path", "file_type")}


# At least three times what random models lose whose next tokens are as clear as a trained one's; nonsense costs more.
_MAX_NEXT_TOKEN_KL: dict[FileType | KQuant, float] = {
    "f32": 1e-3,
    "f16": 1e-3,
    "bf16": 1e-2,
    "q8_0": 2e-2,
    "q6_k": 0.1,
    "q5_k_m": 0.4,
    "q4_k_m": 1.0,
}


def _gguf_format(file_type: FileType, description: str, *, min_same_text: float) -> ExportFormat:
    write = partial(_gguf, file_type=file_type)
    name, max_kl = f"model-{file_type}.gguf", _MAX_NEXT_TOKEN_KL.get(file_type)
    return ExportFormat(f"GGUF, {description}", "llama.cpp", write, name, min_same_text, max_kl)


def _k_quant_format(file_type: KQuant, description: str) -> ExportFormat:
    write, max_kl = partial(_k_quant, file_type=file_type), _MAX_NEXT_TOKEN_KL[file_type]
    name = f"model-{file_type}.gguf"
    return ExportFormat(f"GGUF, {description}", "llama.cpp", write, name, 0.0, max_kl, LLAMA_CPP)


def _torchao(source: Path, folder: Path, how: Writing) -> Mapping[str, object]:
    return write_torchao(source, folder)


def _compressed(scheme: Scheme, description: str) -> ExportFormat:
    write = partial(write_llm_compressor, scheme=scheme)
    text = f"compressed-tensors, {description}"
    return ExportFormat(text, "transformers", write, ".", 0.0, probe=require_llm_compressor)


FORMATS: dict[str, ExportFormat] = {
    MERGED: ExportFormat("merged weights in safetensors", "transformers", _safetensors, ".", 0.5),
    "bnb-nf4": ExportFormat(
        "bitsandbytes 4-bit NormalFloat", "transformers", partial(_bnb, quantization="nf4"), ".", 0.0
    ),
    "bnb-int8": ExportFormat(
        "bitsandbytes 8-bit integers", "transformers", partial(_bnb, quantization="int8"), ".", 0.2
    ),
    "torchao-int8": ExportFormat(
        "torchao 8-bit integers, a scale for each row", "transformers", _torchao, ".", 0.0, extra=TORCHAO
    ),
    "auto-round-w4a16": ExportFormat(
        "auto-round 4-bit integers, a scale for each group",
        "transformers",
        write_auto_round,
        ".",
        0.0,
        extra=AUTO_ROUND,
    ),
    "compressed-w4a16": _compressed("W4A16", "4-bit integers, a scale for each group"),
    "compressed-w8a8": _compressed("W8A8", "8-bit integers, activations rounded as well"),
    "compressed-fp8": _compressed("FP8_DYNAMIC", "8-bit floats, activations rounded as well"),
    "gguf-f32": _gguf_format("f32", "float32", min_same_text=0.5),
    "gguf-f16": _gguf_format("f16", "float16", min_same_text=0.5),
    "gguf-bf16": _gguf_format("bf16", "bfloat16", min_same_text=0.5),
    "gguf-q8_0": _gguf_format("q8_0", "8 bits and a scale for each 32 weights", min_same_text=0.2),
    "gguf-q6_k": _k_quant_format("q6_k", "6 bits and two levels of scales for each 256 weights"),
    "gguf-q5_k_m": _k_quant_format("q5_k_m", "llama.cpp's mix of 5 and 6 bits for each 256 weights"),
    "gguf-q4_k_m": _k_quant_format("q4_k_m", "llama.cpp's mix of 4 and 6 bits for each 256 weights"),
    "gguf-q5_1": _gguf_format("q5_1", "5 bits, a scale and an offset for each 32 weights", min_same_text=0.0),
    "gguf-q5_0": _gguf_format("q5_0", "5 bits and a scale for each 32 weights", min_same_text=0.0),
    "gguf-q4_1": _gguf_format("q4_1", "4 bits, a scale and an offset for each 32 weights", min_same_text=0.0),
    "gguf-q4_0": _gguf_format("q4_0", "4 bits and a scale for each 32 weights", min_same_text=0.0),
}
