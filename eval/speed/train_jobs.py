"""Whole jobs on the clock, and how often the teacher or the reference had to run in them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from distill.models import LoadedModel
from eval.speed.peak_memory import PeakMemory


@dataclass(frozen=True)
class JobResult:
    """A job from models that stand in memory to trained students; `final_losses` has one loss a student.

    `num_frozen_passes` counts forward passes of the teacher and of the reference, `num_frozen_tokens` the positions
    they read, padding included.
    """

    elapsed_s: float
    cpu_s: float
    job_bytes: int
    raw_bytes: int
    num_frozen_passes: int
    num_frozen_tokens: int
    final_losses: tuple[float, ...]


@dataclass
class Meter:
    """Counts the forward passes of a model's layers, whoever runs them."""

    num_passes: int = 0
    num_tokens: int = 0

    @staticmethod
    def of(loaded: LoadedModel) -> "Meter":
        """A meter on `loaded` for as long as it lives."""
        meter = Meter()
        backbone: Any = loaded.model.base_model
        backbone.register_forward_pre_hook(meter._count, with_kwargs=True)
        return meter

    def _count(self, module: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        del module
        ids = named["input_ids"] if "input_ids" in named else arguments[0]
        self.num_passes += 1
        self.num_tokens += ids.numel()


@dataclass
class RunningJob:
    """What a job tells about itself while it runs."""

    meters: tuple[Meter, ...]
    memory: PeakMemory
    final_losses: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0
    cpu_s: float = 0.0

    def result(self) -> JobResult:
        """Once it is over."""
        return JobResult(
            elapsed_s=self.elapsed_s,
            cpu_s=self.cpu_s,
            job_bytes=self.memory.above_level_bytes,
            raw_bytes=self.memory.raw_bytes,
            num_frozen_passes=sum(meter.num_passes for meter in self.meters),
            num_frozen_tokens=sum(meter.num_tokens for meter in self.meters),
            final_losses=tuple(self.final_losses),
        )


@contextmanager
def timed_job(*meters: Meter) -> Iterator[RunningJob]:
    """The block is the job."""
    job = RunningJob(meters, PeakMemory())
    started, cpu_started = time.perf_counter(), time.process_time()
    yield job
    job.elapsed_s, job.cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
