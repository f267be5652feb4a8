"""Fused heads beside the bare products, TRL's and Liger's; and steps of large students on a GPU.

    python -m eval.speed.heads [--part heads|steps ...] [--tokens N --hidden N --vocab N ...] [--json FILE]

On a CPU the shapes are small and in float32; on a GPU they are those of large models in bfloat16. All losses of a
family are the same, or nothing is measured. Prints one JSON line.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from distill.errors import DistillError
from distill.files import write_json
from eval.published import command_of, published_benchmark
from eval.speed.clock import Run, interleaved, spread, synchronise
from eval.speed.figures import Spread
from eval.speed.head_candidates import (
    HeadCandidate,
    HeadInputs,
    HeadShape,
    candidates,
    forward_backward,
    resident_peak,
)
from eval.speed.head_figures import HeadRow, HeadSpeed, LargeStep
from eval.speed.large_steps import MODELS, described, large_step
from eval.speed.processes import alone

PARTS = ("heads", "steps")
SMALL = HeadShape(
    num_tokens=1024,
    hidden_size=256,
    teacher_hidden_size=512,
    vocab_size=32_000,
    answer_tokens=128,
    dtype=torch.float32,
)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Relative, of a loss: bfloat16 products of different chunking differ by their rounding."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures, prints."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    usual = HeadShape() if device.type == "cuda" else SMALL
    parser = argparse.ArgumentParser(prog="python -m eval.speed.heads", description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="measure this part only; may be repeated")
    parser.add_argument("--tokens", type=int, default=usual.num_tokens, help="completion tokens")
    parser.add_argument("--answer", type=int, default=usual.answer_tokens, help="tokens of one answer")
    parser.add_argument("--hidden", type=int, default=usual.hidden_size, help="of the student")
    parser.add_argument("--teacher-hidden", type=int, default=usual.teacher_hidden_size, help="of the teacher")
    parser.add_argument("--vocab", type=int, default=usual.vocab_size)
    parser.add_argument("--repeats", type=int, default=15, help="measured runs of every head")
    parser.add_argument("--model", action="append", choices=MODELS, help="of the part steps; may be repeated")
    parser.add_argument("--steps", type=int, default=10, help="measured training steps of each model")
    parser.add_argument("--peak-tflops", type=float, help="what the device's maker states for its matrix products")
    parser.add_argument("--json", type=Path, help="write the figures with machine, versions and date")
    options = parser.parse_args(arguments)
    started = time.perf_counter()
    shape = replace(
        usual,
        num_tokens=options.tokens,
        answer_tokens=options.answer,
        hidden_size=options.hidden,
        teacher_hidden_size=options.teacher_hidden,
        vocab_size=options.vocab,
    )
    parts = options.part or (PARTS if device.type == "cuda" else PARTS[:1])
    rows: list[HeadRow] = []
    if "heads" in parts:
        rows = head_rows(HeadInputs(shape, device), num_repeats=options.repeats)
    vendor = None if options.peak_tflops is None else 1e12 * options.peak_tflops
    models = (options.model or [name for name in MODELS if name != "tiny"]) if "steps" in parts else []
    steps = [large_step(name, device, num_steps=options.steps, vendor_flops_per_s=vendor) for name in models]
    figures = head_speed(shape, device, rows, steps)
    print(figures.model_dump_json())
    if options.json is not None:
        names = ("tokens", "answer", "hidden", "teacher_hidden", "vocab", "repeats", "steps")
        chosen: list[tuple[str, object]] = [("part", part) for part in parts]
        chosen += [(name.replace("_", "-"), getattr(options, name)) for name in names]
        result = published_benchmark(
            figures,
            command=command_of("eval.speed.heads", chosen),
            elapsed_s=time.perf_counter() - started,
            packages=_packages(),
        )
        write_json(options.json, result.model_dump(mode="json"))


def peak_alone(shape: HeadShape, name: str) -> int:
    """Bytes that one candidate needs in a process of its own, which holds nothing that another candidate left."""
    return alone(partial(resident_peak, shape, name), int, num_threads=torch.get_num_threads())


def head_rows(
    inputs: HeadInputs, *, num_repeats: int, cpu_peak: Callable[[HeadShape, str], int] = peak_alone
) -> list[HeadRow]:
    """Every candidate: one run for its loss and memory, then all of them in turn.

    Args:
        inputs: of all candidates.
        num_repeats: measured runs.
        cpu_peak: measures the memory of the candidate of a name on the CPU.

    Raises:
        DistillError: two candidates of a family do not give the same loss.
    """
    listed = candidates(inputs)
    first = {candidate.name: _first_run(inputs, candidate, cpu_peak) for candidate in listed}
    for family in dict.fromkeys(candidate.family for candidate in listed):
        losses = {c.name: first[c.name][0] for c in listed if c.family == family}
        require_same_losses(losses, tolerance=TOLERANCE[inputs.shape.dtype])
    runs = {c.name: Run(partial(forward_backward, c), inputs.clear) for c in listed}
    elapsed_s = interleaved(runs, num_repeats=num_repeats)
    products = {c.family: c.name for c in listed if c.origin == "products"}
    return [
        HeadRow(
            name=c.name,
            family=c.family,
            origin=c.origin,
            elapsed_ms=spread([1e3 * seconds for seconds in elapsed_s[c.name]]),
            over_products=over_products(elapsed_s[c.name], elapsed_s[products[c.family]], origin=c.origin),
            size_bytes=first[c.name][1],
            loss=first[c.name][0],
        )
        for c in listed
    ]


def over_products(elapsed_s: Sequence[float], products_s: Sequence[float], *, origin: str) -> Spread | None:
    """Time over the products' time, round by round; None for the products themselves."""
    if origin == "products":
        return None
    return spread([seconds / least for seconds, least in zip(elapsed_s, products_s, strict=True)])


def require_same_losses(losses: dict[str, float | None], *, tolerance: float) -> None:
    """Checks that candidates compute the same; None stands for one without a loss.

    Raises:
        DistillError: two losses differ by more than `tolerance` of their size.
    """
    told = {name: loss for name, loss in losses.items() if loss is not None}
    for name, loss in told.items():
        first, wanted = next(iter(told.items()))
        if not abs(loss - wanted) <= tolerance * max(abs(wanted), 1.0):
            raise DistillError(
                f"the loss of {name} is {loss:.7f}, that of {first} {wanted:.7f}", why="this is not the same work"
            )


def head_speed(
    shape: HeadShape, device: torch.device, rows: Sequence[HeadRow], steps: Sequence[LargeStep]
) -> HeadSpeed:
    """The figures with the names of device and shapes, and what is missing here."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    missing = [
        f"{label} is not installed here"
        for label, module in (("TRL", "trl"), ("Liger", "liger_kernel"))
        if rows and importlib.util.find_spec(module) is None
    ]
    return HeadSpeed(
        shape=shape.described(),
        device=name,
        rows=tuple(rows),
        steps_described=described() if steps else "",
        steps=tuple(steps),
        notes=tuple(missing),
    )


def _first_run(
    inputs: HeadInputs, candidate: HeadCandidate, cpu_peak: Callable[[HeadShape, str], int]
) -> tuple[float | None, int]:
    """Loss, and bytes at the peak above the inputs; the gradients, which stay, are among them for all alike."""
    inputs.clear()
    synchronise()
    if inputs.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss = forward_backward(candidate)
        return loss, torch.cuda.max_memory_allocated() - before
    loss = forward_backward(candidate)
    return loss, cpu_peak(inputs.shape, candidate.name)


def _packages() -> tuple[str, ...]:
    found = [("trl", "trl"), ("liger-kernel", "liger_kernel"), ("triton", "triton")]
    return ("torch", "transformers", *(name for name, module in found if importlib.util.find_spec(module)))


if __name__ == "__main__":
    main()
