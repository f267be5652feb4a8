"""What an export needs of memory, against the size of the model in bfloat16.

    python -m eval.speed.export_memory [--model FOLDER] [--shape 0.5b|0.1b|tiny] [--job NAME ...] [--json FILE]

Each job runs in a process of its own, whose level is taken once the libraries are loaded: quantizing a merged model
with bitsandbytes, which includes reading it back, merging LoRA adapters, and a whole export to bnb-nf4. Prints one
JSON line.
"""

import argparse
import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distill.files import write_json
from distill.memory import status_bytes
from distill.models import LoraSettings, Quantization, add_lora, load_model, save_model
from eval.published import command_of, published_benchmark
from eval.speed.export_memory_figures import ExportMemory, MemoryRow
from eval.speed.export_models import SHAPES, held_out_chats, num_parameters, random_qwen2
from eval.speed.peak_memory import PeakMemory
from eval.speed.processes import alone

VERSIONS = ("torch", "transformers", "bitsandbytes", "peft", "safetensors")
NUM_CHATS = 2
_SAMPLE_S = 0.005
_BYTES_PER_WEIGHT = 2


@dataclass(frozen=True)
class JobMemory:
    """One job: the peak above the level before it, and of what stands above it at its highest sample, the pages that
    are parts of files, which the system can drop and read again."""

    elapsed_s: float
    peak_bytes: int
    file_bytes: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m eval.speed.export_memory", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a merged model folder; without it one of random weights is made")
    parser.add_argument("--shape", choices=SHAPES, default="0.5b", help="of the random weights")
    parser.add_argument("--job", action="append", choices=JOBS, help="measure this one only; may be repeated")
    parser.add_argument("--threads", type=int, default=1, help="for tensors, in each process")
    parser.add_argument("--json", type=Path, help="write the figures with machine, versions and date")
    options = parser.parse_args(arguments)
    jobs, started = options.job or list(JOBS), time.perf_counter()
    figures = measure(options.model, shape=options.shape, jobs=jobs, num_threads=options.threads)
    print(figures.model_dump_json())
    if options.json is not None:
        chosen: list[tuple[str, object]] = [("model", "MODEL")] if options.model else [("shape", options.shape)]
        chosen += [("job", job) for job in jobs] + [("threads", options.threads)]
        command, elapsed_s = command_of("eval.speed.export_memory", chosen), time.perf_counter() - started
        result = published_benchmark(figures, command=command, elapsed_s=elapsed_s, packages=VERSIONS)
        write_json(options.json, result.model_dump(mode="json"))


def measure(model: Path | None, *, shape: str, jobs: Sequence[str], num_threads: int = 1) -> ExportMemory:
    """Runs the jobs, one after another, on `model`, or on random weights of a shape in `SHAPES`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model" if model is None else model
        if model is None:
            alone(partial(make_model, shape, folder), bool, num_threads=num_threads)
        if "merge" in jobs:
            alone(partial(make_adapters, folder, Path(scratch) / "adapters"), bool, num_threads=num_threads)
        number = alone(partial(num_parameters, folder), int, num_threads=num_threads)
        size_bytes = _BYTES_PER_WEIGHT * number
        rows = []
        for job in jobs:
            source = Path(scratch) / "adapters" if job == "merge" else folder
            run = partial(measure_here, job, source, Path(scratch) / f"out-{job}")
            found = alone(run, JobMemory, num_threads=num_threads)
            rows.append(MemoryRow(job=job, **vars(found), ratio=found.peak_bytes / size_bytes))
        name = f"Qwen2 shape {shape}" if model is None else model.name
        return ExportMemory(model=name, num_parameters=number, bfloat16_bytes=size_bytes, rows=tuple(rows))


def make_model(shape: str, folder: Path) -> bool:
    """Writes random weights of a shape."""
    random_qwen2(SHAPES[shape], folder)
    return True


def make_adapters(base: Path, folder: Path) -> bool:
    """Writes LoRA adapters that change the model in `base`."""
    loaded = load_model(base, dtype="bfloat16")
    model = add_lora(loaded.model, LoraSettings(rank=16, alpha=32), seed=0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.01)
    model.peft_config["default"].base_model_name_or_path = str(base.absolute())
    save_model(model, loaded.tokenizer, folder)
    return True


def measure_here(job: str, source: Path, folder: Path) -> JobMemory:
    """Runs a job in this process, after it has loaded what the job imports."""
    import bitsandbytes  # noqa: F401
    import gguf  # noqa: F401
    import peft  # noqa: F401
    import transformers.models.auto.modeling_auto
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401

    import distill.export  # noqa: F401

    memory = PeakMemory()
    file_level = status_bytes("RssFile") or 0
    started = time.perf_counter()
    with _sampled() as samples:
        JOBS[job](source, folder)
    elapsed_s = time.perf_counter() - started
    _, file_bytes = max(samples, default=(0, file_level))
    return JobMemory(elapsed_s, memory.above_level_bytes, max(file_bytes - file_level, 0))


@contextlib.contextmanager
def _sampled() -> Iterator[list[tuple[int, int]]]:
    """Resident bytes, and those of files among them, every few milliseconds."""
    samples: list[tuple[int, int]] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_SAMPLE_S):
            found = status_bytes("VmRSS"), status_bytes("RssFile")
            if found[0] is not None and found[1] is not None:
                samples.append((found[0], found[1]))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        is_over.set()
        thread.join()


def _quantize(source: Path, folder: Path, *, quantization: Quantization) -> None:
    from distill.export.bitsandbytes import write_bitsandbytes

    write_bitsandbytes(source, folder, quantization=quantization)


def _merge(source: Path, folder: Path) -> None:
    from distill.export import write_merged

    write_merged(source, folder, dtype="bfloat16")


def _export(source: Path, folder: Path) -> None:
    from distill.export import ExportSettings, export_model

    settings = ExportSettings(
        formats=("bnb-nf4",), dtype="bfloat16", num_smoke_prompts=NUM_CHATS, max_new_tokens=4, measures_speed=False
    )
    chats = held_out_chats(NUM_CHATS)
    export_model(source, formats=("bnb-nf4",), output_dir=folder, prompts=chats, settings=settings)


JOBS: dict[str, Callable[[Path, Path], None]] = {
    "bnb-nf4": partial(_quantize, quantization="nf4"),
    "bnb-int8": partial(_quantize, quantization="int8"),
    "merge": _merge,
    "export": _export,
}


if __name__ == "__main__":
    main()
