"""Time and tokens of a run, over all its interruptions."""

import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Clock:
    """Time and tokens since the first step, over all interruptions."""

    elapsed_s: float
    num_tokens: int
    last: float

    @staticmethod
    def after(rows: Sequence[dict[str, float]]) -> "Clock":
        """A clock that goes on where these rows of metrics ended."""
        elapsed_s = max((row["elapsed_s"] for row in rows), default=0.0)
        num_tokens = max((int(row.get("total_tokens", 0)) for row in rows), default=0)
        return Clock(elapsed_s, num_tokens, time.perf_counter())

    def tick(self, num_tokens: int) -> float:
        """Adds tokens, and the time since the last tick, which it returns."""
        now = time.perf_counter()
        passed, self.last = now - self.last, now
        self.elapsed_s += passed
        self.num_tokens += num_tokens
        return passed
