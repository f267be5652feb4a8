"""K-quants: an unquantized GGUF file through llama.cpp's own quantizer, in a process of its own."""

import importlib.metadata
import importlib.util
import logging
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gguf

from distill.errors import ExportError
from distill.export.gguf import write_gguf
from distill.extras import LLAMA_CPP
from distill.files import replacing_file
from distill.process import own_environment

log = logging.getLogger(__name__)

KQuant = Literal["q4_k_m", "q5_k_m", "q6_k"]

_FILE_TYPES: dict[KQuant, gguf.LlamaFileType] = {
    "q4_k_m": gguf.LlamaFileType.MOSTLY_Q4_K_M,
    "q5_k_m": gguf.LlamaFileType.MOSTLY_Q5_K_M,
    "q6_k": gguf.LlamaFileType.MOSTLY_Q6_K,
}
_BLOCK_SIZE = 256
_NUM_ERROR_LINES = 3
_PROGRAM = """
import ctypes, sys
import llama_cpp
source, target, file_type = sys.argv[1:]
llama_cpp.llama_backend_init()
settings = llama_cpp.llama_model_quantize_default_params()
settings.ftype = int(file_type)
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(settings)))
"""


@dataclass(frozen=True)
class KQuantReport:
    """What llama.cpp made of it.

    `num_fallbacks` of the `num_matrices` are not stored in K-quants but in wider, older types: a row that no block of
    256 weights divides cannot be.
    """

    path: Path
    file_type: KQuant
    num_tensors_by_type: dict[str, int]
    bits_per_weight: float
    num_matrices: int
    num_fallbacks: int
    quantizer: str


def write_k_quant(folder: Path, path: Path, *, file_type: KQuant) -> KQuantReport:
    """Writes the checkpoint in `folder` to `path` in llama.cpp's own mix of types, whole or not at all.

    A float32 file is written beside it, quantized and removed. The quantizer runs in another process, for llama.cpp
    ends its process on some errors, and its builds cannot be loaded side by side. The same folder and the same
    llama.cpp give the same bytes.

    Raises:
        RecipeError: there is neither the package llama_cpp nor the command llama-quantize.
        ExportError: the model has no counterpart in llama.cpp, or the quantizer fails.
    """
    LLAMA_CPP.require(f"gguf-{file_type}")
    with replacing_file(path) as partial:
        unquantized = partial.with_suffix(".unquantized")
        try:
            write_gguf(folder, unquantized, file_type="f32")
            quantizer = _quantize(unquantized, partial, file_type=file_type)
        finally:
            unquantized.unlink(missing_ok=True)
        report = _report(partial, path, file_type=file_type, quantizer=quantizer)
    if report.num_fallbacks:
        log.warning("%s: %s", path.name, fallback_note(report.num_fallbacks, report.num_matrices))
    return report


def fallback_note(num_fallbacks: int, num_matrices: int) -> str:
    """What a reader of the type histogram has to know."""
    return (
        f"{num_fallbacks} of {num_matrices} matrices are not K-quants but stored in wider, older types: "
        f"their rows are no multiple of {_BLOCK_SIZE} weights"
    )


def _quantize(source: Path, target: Path, *, file_type: KQuant) -> str:
    """Runs the package's quantizer, or the command's where there is no package; returns its name and version."""
    if importlib.util.find_spec(LLAMA_CPP.module) is not None:
        command = [sys.executable, "-P", "-c", _PROGRAM, str(source), str(target), str(int(_FILE_TYPES[file_type]))]
        quantizer = f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"
    else:
        found = shutil.which(str(LLAMA_CPP.program))
        assert found is not None, "require() has seen it"
        command, quantizer = [found, str(source), str(target), file_type.upper()], Path(found).name
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, env=own_environment())
    if done.returncode or not target.exists():
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()][-_NUM_ERROR_LINES:]
        raise ExportError(
            f"{quantizer} ends with exit code {done.returncode} on gguf-{file_type}",
            why="; ".join(lines) or "it says nothing",
            fix=f"export gguf-q8_0 instead, or install it again: {LLAMA_CPP.install}",
        )
    return quantizer


def _report(written: Path, path: Path, *, file_type: KQuant, quantizer: str) -> KQuantReport:
    """What the file `written` holds, which is to be `path`.

    Raises:
        ExportError: it says to be of another file type than was asked for.
    """
    reader = gguf.GGUFReader(written)
    field = reader.get_field(gguf.Keys.General.FILE_TYPE)
    stored = None if field is None else int(field.contents())
    if stored != _FILE_TYPES[file_type]:
        raise ExportError(
            f"{quantizer} wrote file type {stored}, not {int(_FILE_TYPES[file_type])} ({file_type})",
            why="its version knows other types",
            fix=LLAMA_CPP.install,
        )
    matrices = [tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1]
    num_weights = sum(int(tensor.n_elements) for tensor in reader.tensors)
    return KQuantReport(
        path=path,
        file_type=file_type,
        num_tensors_by_type=dict(sorted(Counter(tensor.tensor_type.name for tensor in reader.tensors).items())),
        bits_per_weight=8 * sum(int(tensor.n_bytes) for tensor in reader.tensors) / num_weights,
        num_matrices=len(matrices),
        num_fallbacks=sum(not name.endswith("_K") for name in matrices),
        quantizer=quantizer,
    )
