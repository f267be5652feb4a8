"""The teacher cache on the clock: capture, reading, and how long training waits for it.

    python -m eval.speed.cache [--part capture|read|waiting ...] [--json FILE]

Capture and waiting are measured in wall time, reading in CPU-seconds; runs of one part are interleaved. Prints one
JSON line.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from distill.files import write_json
from distill.process import keep_freed_memory
from eval.published import command_of, published_benchmark
from eval.speed import capture, read, waiting
from eval.speed.figures import CacheSpeed

PARTS = ("capture", "read", "waiting")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m eval.speed.cache", description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="measure this part only; may be repeated")
    parser.add_argument("--repeats", type=int, default=7, help="measured rounds of capture and reading")
    parser.add_argument("--steps", type=int, default=12, help="measured training steps")
    parser.add_argument("--json", type=Path, help="write the figures with machine, versions and date")
    options = parser.parse_args(arguments)
    keep_freed_memory()  # as the command does
    started = time.perf_counter()
    figures = measure(options.part or PARTS, num_repeats=options.repeats, num_steps=options.steps)
    print(figures.model_dump_json())
    if options.json is not None:
        chosen = [
            *(("part", part) for part in options.part or ()),
            ("repeats", options.repeats),
            ("steps", options.steps),
        ]
        command = command_of("eval.speed.cache", chosen)
        result = published_benchmark(figures, command=command, elapsed_s=time.perf_counter() - started)
        write_json(options.json, result.model_dump(mode="json"))


def measure(parts: Sequence[str], *, num_repeats: int, num_steps: int) -> CacheSpeed:
    """The parts asked for; the others stay empty."""
    captured = capture.capture_rows(num_repeats) if "capture" in parts else []
    reading = read.reading(num_repeats) if "read" in parts else read.Reading((), {})
    waits = [waiting.waiting_row(num_steps)] if "waiting" in parts else []
    return CacheSpeed(
        shapes={"capture": capture.described(), "reading": read.described(), "waiting": waiting.described()},
        capture=tuple(captured),
        reading=reading.rows,
        reading_ratio=reading.ratios,
        waiting=tuple(waits),
    )


if __name__ == "__main__":
    main()
