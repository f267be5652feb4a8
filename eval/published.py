"""Figures that documents show: results and benchmarks with the command, the machine and the versions that made them.

`python -m eval.published RUN_FOLDER FILE --command "..." [--stage STAGE]` writes FILE; documents hold its table between
markers, and a test compares the two.
"""

import argparse
import datetime
import math
import os
import platform
import re
import shlex
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from distill.files import read_json, write_json
from distill.settings import Settings, validated
from eval.energy_figures import EnergyFigures
from eval.f_dpg_figures import FDpgFigures
from eval.harmlessness_figures import HarmlessnessFigures
from eval.mt_bench.embedded_figures import EmbeddedBench
from eval.objective_figures import ObjectiveFigures
from eval.results import ResultTable, read_results
from eval.speed.export_figures import ExportSpeed
from eval.speed.export_memory_figures import ExportMemory
from eval.speed.figures import CacheSpeed, RateDistortion
from eval.speed.head_figures import HeadSpeed
from eval.speed.train_figures import TrainSpeed
from eval.steering_figures import SteeringFigures

BENCHMARK: Literal["distill-benchmark"] = "distill-benchmark"
CACHE_PACKAGES = ("torch", "transformers", "safetensors", "pyarrow")

Figures = (
    CacheSpeed
    | RateDistortion
    | TrainSpeed
    | HeadSpeed
    | ExportSpeed
    | ExportMemory
    | ObjectiveFigures
    | EmbeddedBench
    | SteeringFigures
    | FDpgFigures
    | EnergyFigures
    | HarmlessnessFigures
)


class PublishedResult(Settings):
    """A result table with where it comes from."""

    command: str
    date: str
    machine: str
    versions: dict[str, str]
    elapsed_s: dict[str, float]
    table: ResultTable

    def to_markdown(self) -> str:
        """The table, then one line on its origin."""
        total = sum(self.elapsed_s.values()) / 60
        notes = "".join(f"\n{note}." for note in self.table.notes)
        return (
            f"{self.table.to_markdown()}{notes}\n\n`{self.command}`: {total:.1f} minutes on {self.machine},"
            f" {self.date}; torch {self.versions['torch']}, transformers {self.versions['transformers']},"
            f" DeepSpeed {self.versions['deepspeed']}.\n"
        )


class PublishedBenchmark(Settings):
    """A benchmark's figures with where they come from."""

    format: Literal["distill-benchmark"] = BENCHMARK
    version: Literal[1] = 1
    command: str
    date: str
    machine: str
    num_threads: int
    versions: dict[str, str]
    elapsed_s: float
    figures: Figures = Field(discriminator="format")

    def to_markdown(self) -> str:
        """The tables, then one line on their origin."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.figures.to_markdown()}\n`{self.command}`: {self.elapsed_s / 60:.1f} minutes on {self.machine}, "
            f"{self.num_threads} threads, {self.date}; {versions}.\n"
        )


class _StageFigures(Settings):
    """What the run folder holds of a stage, and how long all stages took."""

    elapsed_s: dict[str, float]
    figures: Figures = Field(discriminator="format")


def published(run_folder: Path, *, command: str) -> PublishedResult:
    """Collects the figures of a finished run."""
    manifests = [read_json(path) for path in sorted(run_folder.glob("*/manifest.json"))]
    versions = next(manifest["versions"] for manifest in manifests if manifest["stage"] == "evaluate")
    values = {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions,
        "elapsed_s": {str(manifest["stage"]): manifest["elapsed_s"] for manifest in manifests},
        "table": read_results(run_folder / "evaluate" / "results.json"),
    }
    return validated(PublishedResult, values, source=str(run_folder))


def published_stage(run_folder: Path, stage: str, *, command: str) -> PublishedBenchmark:
    """The figures of a run's finished stage, whose `results.json` names their format."""
    manifests = [read_json(path) for path in sorted(run_folder.glob("*/manifest.json"))]
    seconds = {str(manifest["stage"]): manifest["elapsed_s"] for manifest in manifests}
    values = {"elapsed_s": seconds, "figures": read_json(run_folder / stage / "results.json")}
    found = validated(_StageFigures, values, source=str(run_folder))
    total_s = math.fsum(found.elapsed_s.values())
    return published_benchmark(found.figures, command=command, elapsed_s=total_s, packages=("torch", "transformers"))


def published_benchmark(
    figures: Figures, *, command: str, elapsed_s: float, packages: tuple[str, ...] = CACHE_PACKAGES
) -> PublishedBenchmark:
    """A benchmark's figures, measured just now on this machine with these packages."""
    return PublishedBenchmark(
        command=command,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=machine(),
        num_threads=torch.get_num_threads(),
        versions={name: metadata.version(name) for name in packages},
        elapsed_s=elapsed_s,
        figures=figures,
    )


def command_of(module: str, options: Iterable[tuple[str, object]]) -> str:
    """The command that measures again; no option of it may be a path of this machine."""
    words = [word for name, value in options for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", module, *words])


def read_published(path: Path) -> PublishedResult | PublishedBenchmark:
    """Reads published figures back."""
    values = read_json(path)
    if values.get("format") == BENCHMARK:
        return validated(PublishedBenchmark, values, source=str(path))
    return validated(PublishedResult, values, source=str(path))


def machine() -> str:
    """Cores, processor and system in a few words."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
        cpu = found.group(1) if found else cpu
    return f"{os.cpu_count()} cores ({cpu}), {platform.system()}"


def main() -> None:
    """Writes the published figures of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--command", required=True)
    parser.add_argument("--stage", default="evaluate", help="whose figures; default: evaluate")
    arguments = parser.parse_args()
    run_folder, stage, command = arguments.run_folder, arguments.stage, arguments.command
    is_table = stage == "evaluate"
    result = published(run_folder, command=command) if is_table else published_stage(run_folder, stage, command=command)
    write_json(arguments.file, result.model_dump(mode="json"))


if __name__ == "__main__":
    main()
