"""What is put on the clock of an export, each in a process of its own: writing an artefact, and how far it is."""

import importlib
import importlib.util
import multiprocessing.forkserver
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from distill.errors import DistillError
from distill.export import FORMATS, measure_fidelity, tokenize_chats
from distill.export.weight_error import weight_report
from distill.export.writing import Writing
from distill.models import Quantization, folder_size_bytes, load_model
from distill.models.quantized import quantization_config
from eval.speed.export_models import held_out_chats, num_parameters
from eval.speed.peak_memory import PeakMemory
from eval.speed.processes import alone

DTYPE: Literal["bfloat16"] = "bfloat16"
# Loaded before the clock starts: an export has them loaded when its second artefact begins.
_LIBRARIES = (
    "bitsandbytes",
    "gguf",
    "transformers.generation",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2",
)


@dataclass(frozen=True)
class Written:
    """One artefact's making: `peak_bytes` is the process's peak above its level before; `refusal` says why not."""

    elapsed_s: float
    peak_bytes: int
    size_bytes: int
    refusal: str | None = None


@dataclass(frozen=True)
class Distance:
    """An artefact against the merged model; `kl_standard_error_nats` treats chats as independent."""

    num_tokens: int
    kl_nats: float
    kl_standard_error_nats: float
    same_top_token: float
    bits_per_weight: float


def start_processes() -> None:
    """Starts the process that the others are forked from, with what they need; without it each loads that itself."""
    multiprocessing.set_forkserver_preload([__name__, *_LIBRARIES])
    multiprocessing.forkserver.ensure_running()


def written(name: str, source: Path, folder: Path, *, num_threads: int) -> Written:
    """Format `name` of the model in `source`, written to `folder`, which need not exist, in a process of its own."""
    return alone(partial(write_here, name, source, folder), Written, num_threads=num_threads)


def written_by_transformers(quantization: Quantization, source: Path, folder: Path, *, num_threads: int) -> Written:
    """The same by `from_pretrained(quantization_config=...).save_pretrained` alone, which reloads nothing."""
    return alone(partial(transformers_here, quantization, source, folder), Written, num_threads=num_threads)


def distance(path: Path, merged_folder: Path, *, num_chats: int, num_threads: int) -> Distance:
    """The artefact at `path` beside the model it was made from, in a process of its own."""
    return alone(partial(distance_here, path, merged_folder, num_chats), Distance, num_threads=num_threads)


def parameters(folder: Path, *, num_threads: int) -> int:
    """Of the model in `folder`, counted in a process of its own."""
    return alone(partial(num_parameters, folder), int, num_threads=num_threads)


def write_here(name: str, source: Path, folder: Path) -> Written:
    """As `written`, in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    return _timed(lambda: FORMATS[name].write(source, folder, Writing(dtype=DTYPE)), folder)


def transformers_here(quantization: Quantization, source: Path, folder: Path) -> Written:
    """As `written_by_transformers`, in this process; 4-bit weights are multiplied in float32, as ours are."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def write() -> None:
        config = quantization_config(quantization, torch.float32)
        model = AutoModelForCausalLM.from_pretrained(source, quantization_config=config, dtype=torch.float32)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)

    return _timed(write, folder)


def distance_here(path: Path, merged_folder: Path, num_chats: int) -> Distance:
    """As `distance`, in this process."""
    merged = load_model(merged_folder)
    chats = tokenize_chats(merged, held_out_chats(num_chats))
    fidelity = measure_fidelity(merged, load_model(path), chats=chats)
    error = fidelity.kl_standard_error_nats
    assert error is not None, "there is more than one chat"
    return Distance(
        num_tokens=fidelity.num_tokens,
        kl_nats=fidelity.kl_nats,
        kl_standard_error_nats=error,
        same_top_token=fidelity.same_top_token,
        bits_per_weight=weight_report(path, merged_folder=merged_folder).bits_per_weight,
    )


def _timed(write: Callable[[], object], folder: Path) -> Written:
    for library in _LIBRARIES:
        if importlib.util.find_spec(library.partition(".")[0]) is not None:
            importlib.import_module(library)
    memory = PeakMemory()
    started = time.perf_counter()
    try:
        write()
    except DistillError as error:
        return Written(time.perf_counter() - started, memory.above_level_bytes, 0, error.what)
    elapsed_s = time.perf_counter() - started
    return Written(elapsed_s, memory.above_level_bytes, folder_size_bytes(folder))
