"""Generation speed: tokens a second of a Generator, greedy, on given prompts."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from distill.data.records import Message
from distill.decoding import Generator, SamplingSettings
from distill.errors import DataError


@dataclass(frozen=True)
class Throughput:
    """Tokens a second: the median of the runs, and each run."""

    tokens_per_s: float
    runs: tuple[float, ...]
    num_prompts: int
    num_tokens: int


def throughput(
    generator: Generator, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, num_runs: int = 3
) -> Throughput:
    """Answers the prompts greedily, once to warm up and `num_runs` times on the clock.

    Raises:
        DataError: there is no prompt, or the model generates no token at all.
    """
    if not prompts:
        raise DataError("no prompt to measure the speed on", fix="give at least one")
    greedy = settings.model_copy(update={"temperature": 0.0})
    num_tokens = sum(generation.num_tokens for generation in generator.generate(prompts, greedy, seed=0))
    if not num_tokens:
        raise DataError("the model generated no token", why="its speed cannot be measured", fix="check its answers")
    runs = tuple(_timed(generator, prompts, greedy) for _ in range(num_runs))
    return Throughput(statistics.median(runs), runs, len(prompts), num_tokens)


def _timed(generator: Generator, prompts: Sequence[Sequence[Message]], settings: SamplingSettings) -> float:
    started = time.perf_counter()
    generations = generator.generate(prompts, settings, seed=0)
    elapsed_s = time.perf_counter() - started
    return sum(generation.num_tokens for generation in generations) / elapsed_s
