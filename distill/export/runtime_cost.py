"""What an artefact costs to run: loading, tokens per second, memory."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.decoding import LlamaCppGenerator
from distill.export.smoke import Runtime
from distill.memory import peak_bytes, resident_bytes, restart_peak
from distill.models import load_model, load_tokenizer

NUM_PROMPT_TOKENS, NUM_NEW_TOKENS = 128, 32


@dataclass(frozen=True)
class RuntimeCost:
    """One run of one prompt and its answer, a single row, after the libraries were imported.

    `peak_memory_bytes` is all that the process held at most, `model_memory_bytes` what came on top of the libraries.
    """

    load_s: float
    num_prompt_tokens: int
    prompt_tokens_per_s: float
    num_new_tokens: int
    generation_tokens_per_s: float
    peak_memory_bytes: int
    model_memory_bytes: int
    hardware: str


def run_here(path: str, runtime: Runtime, prompt_ids: list[int], num_new_tokens: int) -> RuntimeCost:
    """The measurement in this process, which has loaded nothing before.

    Args:
        path: a model folder, or a .gguf file for llama.cpp.
        runtime: what loads it.
        prompt_ids: what it reads.
        num_new_tokens: what it writes after that, whether or not it would end before.

    Raises:
        ModelError: it cannot be loaded.
    """
    if runtime == "transformers":
        load_tokenizer(Path(path))  # imports what loading a model would import
    _touch_libraries()
    level_bytes = resident_bytes()
    restart_peak()
    run = _run_llama_cpp if runtime == "llama.cpp" else _run_transformers
    load_s, prompt_speed, speed = run(path, prompt_ids, num_new_tokens)
    most_bytes = peak_bytes()
    return RuntimeCost(
        load_s=load_s,
        num_prompt_tokens=len(prompt_ids),
        prompt_tokens_per_s=prompt_speed,
        num_new_tokens=num_new_tokens,
        generation_tokens_per_s=speed,
        peak_memory_bytes=most_bytes,
        model_memory_bytes=max(most_bytes - level_bytes, 0),
        hardware=hardware(),
    )


@torch.inference_mode()
def _touch_libraries() -> None:
    """Computes a little, so that the code for it is in memory and its threads stand before memory is counted."""
    numbers = torch.ones(1, 64, 64)
    attended = torch.nn.functional.scaled_dot_product_attention(numbers, numbers, numbers)
    torch.nn.functional.silu(attended @ numbers).log_softmax(-1).argmax(-1).tolist()


def hardware() -> str:
    """What the figures were measured on, in a line."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


@torch.inference_mode()
def _run_transformers(path: str, prompt_ids: list[int], num_new_tokens: int) -> tuple[float, float, float]:
    started = time.perf_counter()
    model = load_model(Path(path)).model
    load_s = time.perf_counter() - started
    prompt = torch.tensor([prompt_ids], device=model.device)
    model(input_ids=prompt[:, :2])  # the first call makes what later ones reuse
    started = time.perf_counter()
    output = model(input_ids=prompt, use_cache=True)
    tokens = output.logits[:, -1:].argmax(-1)
    tokens.tolist()  # waits for the device
    prompt_s = time.perf_counter() - started
    started = time.perf_counter()
    for _ in range(num_new_tokens):
        output = model(input_ids=tokens, past_key_values=output.past_key_values, use_cache=True)
        tokens = output.logits[:, -1:].argmax(-1)
        tokens.tolist()
    return load_s, len(prompt_ids) / prompt_s, num_new_tokens / (time.perf_counter() - started)


def _run_llama_cpp(path: str, prompt_ids: list[int], num_new_tokens: int) -> tuple[float, float, float]:
    started = time.perf_counter()
    with LlamaCppGenerator(Path(path), max_length_tokens=len(prompt_ids) + num_new_tokens + 1) as artefact:
        load_s = time.perf_counter() - started
        return load_s, *artefact.speed(prompt_ids, num_new_tokens=num_new_tokens)
