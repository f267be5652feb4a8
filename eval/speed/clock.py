"""Runs on the clock, interleaved A B A B, so that a machine that slows down slows all of them down."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from eval.speed.figures import Spread


@dataclass(frozen=True)
class Run:
    """What is put on the clock; `prepare` is called before each time, off the clock."""

    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


def interleaved(
    runs: Mapping[str, Run], *, num_repeats: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each run, once for a warm-up and then `num_repeats` times in turn.

    Args:
        runs: what is measured, by name.
        num_repeats: measured rounds.
        clock: `time.process_time` counts CPU-seconds of all threads instead.
    """
    elapsed_s: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(num_repeats + 1):
        for name, measured in runs.items():
            measured.prepare()
            synchronise()
            started = clock()
            measured.run()
            synchronise()
            if number:
                elapsed_s[name].append(clock() - started)
    return elapsed_s


def synchronise() -> None:
    """Waits for a GPU to finish what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def spread(values: Sequence[float]) -> Spread:
    """Median, lowest and highest."""
    return Spread(median=statistics.median(values), low=min(values), high=max(values))


def rates(amount: float, elapsed_s: Sequence[float]) -> Spread:
    """Amount a second."""
    return spread([amount / seconds for seconds in elapsed_s])


def shares(elapsed_s: Sequence[float], baseline_s: Sequence[float]) -> Spread:
    """Speed as a share of the baseline's, round by round."""
    return spread([baseline / seconds for seconds, baseline in zip(elapsed_s, baseline_s, strict=True)])
