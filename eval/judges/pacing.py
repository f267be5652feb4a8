"""Keeps to so much a minute: a bucket that fills steadily, from which requests take turns."""

import threading
import time
from collections.abc import Callable

BURST_S = 1.0


class Bucket:
    """So many units a minute, at most a second's worth at once; safe to use from several threads.

    A request that is larger than the bucket is let through in its turn, and those after it wait the longer, so that
    in any minute no more flows than is allowed, but for one second's worth or one request.

    Args:
        per_minute: units.
        now: seconds of a clock that never goes back.
    """

    def __init__(self, per_minute: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._now = per_minute / 60.0, now
        self._burst = max(self._per_s * BURST_S, 1.0)
        self._level, self._at, self._lock = self._burst, now(), threading.Lock()

    def take(self, amount: float) -> float:
        """Takes `amount` now; how many seconds the taker has to wait before it may go."""
        with self._lock:
            now = self._now()
            self._level = min(self._burst, self._level + (now - self._at) * self._per_s)
            self._at = now
            wait_s = max(0.0, (min(amount, self._burst) - self._level) / self._per_s)
            self._level -= amount
            return wait_s
