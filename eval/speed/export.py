"""Exports on the clock: every format's size, distance, speed and memory, and the same formats as others write them.

    python -m eval.speed.export [--model DIR] [--shape 0.1b|0.5b|tiny|none] [--part PART ...] [--converter DIR]

Each measurement has a process of its own and only one works at a time; repeats are interleaved. The file is written
anew after each part, so that what was measured stays when a later part is cut off. Prints one JSON line.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from distill.embedded import teacher_folder
from distill.errors import RecipeError
from distill.export import FORMATS
from distill.export.writing import Writing
from distill.files import write_json
from eval.published import command_of, published_benchmark
from eval.speed.export_converter import converter_folder
from eval.speed.export_figures import ExportSpeed
from eval.speed.export_jobs import start_processes
from eval.speed.export_models import ENTROPY_NATS, SHAPES, random_qwen2
from eval.speed.export_peers import converter_rows, peer_rows
from eval.speed.export_rounds import Subject, format_rows
from eval.speed.processes import alone

PARTS = ("formats", "peers", "converter")
VERSIONS = ("torch", "transformers", "bitsandbytes", "gguf", "xllamacpp")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is measured, and how often.

    Args:
        model: a folder, or None for the embedded teacher: no trained student ships.
        shape: of the Qwen2 of random weights; None leaves it out.
        converter: folder of llama.cpp's converter, where there is one.
    """

    model: Path | None
    shape: str | None
    parts: Sequence[str]
    formats: Sequence[str]
    converter: Path | None
    num_repeats: int
    num_chats: int
    num_threads: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m eval.speed.export", description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a student's folder in place of the embedded teacher")
    parser.add_argument("--shape", choices=(*SHAPES, "none"), default="0.1b", help="of a Qwen2 of random weights")
    parser.add_argument("--part", action="append", choices=PARTS, help="measure this part only; may be repeated")
    parser.add_argument("--format", action="append", choices=tuple(FORMATS), help="this format only; may be repeated")
    parser.add_argument("--converter", type=Path, help="llama.cpp's source folder; DISTILL_LLAMA_CPP otherwise")
    parser.add_argument("--repeats", type=int, default=3, help="measured rounds")
    parser.add_argument("--chats", type=int, default=16, help="held-out dialogues for KL")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of every process")
    parser.add_argument("--json", type=Path, help="write the figures with machine, versions and date")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    plan = Plan(
        model=options.model,
        shape=None if options.shape == "none" else options.shape,
        parts=options.part or PARTS,
        formats=options.format or tuple(FORMATS),
        converter=converter_folder(options.converter),
        num_repeats=options.repeats,
        num_chats=options.chats,
        num_threads=options.threads,
    )
    chosen: list[tuple[str, object]] = [] if options.model is None else [("model", "STUDENT")]
    chosen += [("shape", options.shape)]
    chosen += [(name, value) for name in ("part", "format") for value in getattr(options, name) or ()]
    chosen += [] if plan.converter is None else [("converter", "LLAMA_CPP")]
    chosen += [("repeats", options.repeats), ("chats", options.chats), ("threads", options.threads)]
    started = time.perf_counter()
    start_processes()
    figures = ExportSpeed()
    for figures in measured(plan):
        if options.json is not None:
            elapsed_s = time.perf_counter() - started
            command = command_of("eval.speed.export", chosen)
            result = published_benchmark(figures, command=command, elapsed_s=elapsed_s, packages=VERSIONS)
            write_json(options.json, result.model_dump(mode="json"))
    print(figures.model_dump_json())


def measured(plan: Plan) -> Iterator[ExportSpeed]:
    """All figures so far, after each part of each model."""
    formats, notes = available(plan.formats)
    if "converter" in plan.parts and plan.converter is None:
        notes.append(
            "llama.cpp's converter is not here (`--converter DIR` names llama.cpp's sources); there is nothing beside"
            " our GGUF files"
        )
    figures = ExportSpeed(notes=tuple(notes))
    yield figures
    with tempfile.TemporaryDirectory(prefix="distill-export-") as folder:
        for subject in _subjects(plan, Path(folder)):
            log.info("%s", subject.name)
            if "formats" in plan.parts:
                found, refused = format_rows(subject, formats)
                figures = _and(figures, models=(*figures.models, found), notes=(*figures.notes, *refused))
                yield figures
            if "peers" in plan.parts:
                figures = _and(figures, peers=(*figures.peers, *peer_rows(subject)))
                yield figures
            if "converter" in plan.parts and plan.converter is not None:
                rows = converter_rows(subject, plan.converter)
                figures = _and(figures, converters=(*figures.converters, *rows))
                yield figures


def _and(figures: ExportSpeed, **more: object) -> ExportSpeed:
    return figures.model_copy(update=more)


def available(formats: Sequence[str]) -> tuple[list[str], list[str]]:
    """The formats that can be written here, and a sentence on the others for each thing to install."""
    here: list[str] = []
    missing: dict[str, list[str]] = {}
    for name in formats:
        try:
            FORMATS[name].require(name, Writing())
            here.append(name)
        except RecipeError as error:
            missing.setdefault(f"{error.what}; to have it: {error.fix}", []).append(name)
    return here, [f"Not measured: {', '.join(names)}. {why}" for why, names in missing.items()]


def _subjects(plan: Plan, folder: Path) -> Iterator[Subject]:
    known = Subject(
        name="Embedded teacher",
        described="trained on the cafe's dialogues, bfloat16; no trained student ships, `--model` takes one",
        source=teacher_folder(),
        folder=folder / "model",
        num_repeats=plan.num_repeats,
        num_chats=plan.num_chats,
        num_threads=plan.num_threads,
    )
    if plan.model is not None:
        known = replace(known, name=plan.model.name, described="a student of your own", source=plan.model)
    yield known
    if plan.shape is not None:
        source = folder / "random"
        alone(partial(_make_random, plan.shape, source), bool, num_threads=plan.num_threads)
        shape = SHAPES[plan.shape]
        yield replace(
            known,
            name=f"Qwen2 of random weights, {plan.shape}",
            described=f"hidden size {shape.hidden_size}, {shape.num_layers} layers, vocabulary {shape.vocab_size:,}, "
            f"bfloat16, scaled to a mean entropy of {ENTROPY_NATS:g} nats; no text means anything to it, but KL to the "
            "merged model measures the format's error",
            source=source,
            folder=folder / "shape",
        )


def _make_random(shape: str, folder: Path) -> bool:
    random_qwen2(SHAPES[shape], folder)
    return True


if __name__ == "__main__":
    main()
