"""When a loss has exploded: what a run's own losses say is usual, and what is too far from it to go on."""

import math
import statistics
from collections import deque
from pathlib import Path

from distill.files import read_json, write_json
from distill.settings import Settings

MIN_STEPS = 20
"""Losses that have to be known before one is called unusual."""
WINDOW_STEPS = 100
PATIENCE_STEPS = 5
FLOOR = 1.0
"""Nats: the least that counts as usual, so that the noise of a loss near 0 is not taken for an explosion."""


FILE_NAME = "guard.json"


class GuardState(Settings):
    """What a guard knows, in a checkpoint."""

    recent: tuple[float, ...]
    largest: float
    num_above: int
    lowest_median: float | None


class LossGuard:
    r"""Tells a loss that has exploded from one that is noisy.

    Usual is the lowest median that any run of 100 losses had so far, in size, and at least 1 nat. With c the factor,
    a loss has exploded where it

    - was above c times the usual one for 5 steps in a row, or
    - is above :math:`c^2` times the usual one, and above c times the largest one so far.

    The lowest median, and not the last one, so that a loss that climbs slowly is found too.

    Args:
        factor: c, above 1; None: no loss is ever too large.
    """

    def __init__(self, factor: float | None) -> None:
        self._factor = factor
        self._recent: deque[float] = deque(maxlen=WINDOW_STEPS)
        self._lowest_median = float("inf")
        self._largest = 0.0
        self._num_above = 0

    def save(self, folder: Path) -> None:
        """Writes what is known of the losses to `guard.json` in `folder`."""
        known = {"recent": list(self._recent), "largest": self._largest, "num_above": self._num_above}
        lowest = self._lowest_median if math.isfinite(self._lowest_median) else None
        write_json(folder / FILE_NAME, {**known, "lowest_median": lowest})

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote, so that a resumed run judges as the uninterrupted one."""
        known = GuardState.model_validate(read_json(folder / FILE_NAME))
        self._recent.extend(known.recent)
        self._largest, self._num_above = known.largest, known.num_above
        self._lowest_median = math.inf if known.lowest_median is None else known.lowest_median

    def verdict(self, loss: float) -> str | None:
        """Takes in the finite loss of a step; says in words how it has exploded, None where it has not."""
        if self._factor is None:
            return None
        size = abs(loss)
        found = self._verdict(size, self._factor) if len(self._recent) >= MIN_STEPS else None
        self._recent.append(size)
        self._largest = max(self._largest, size)
        if len(self._recent) >= MIN_STEPS:
            self._lowest_median = min(self._lowest_median, statistics.median(self._recent))
        return found

    def _verdict(self, size: float, factor: float) -> str | None:
        usual = max(self._lowest_median, FLOOR)
        self._num_above = self._num_above + 1 if size > factor * usual else 0
        if size > factor * max(factor * usual, self._largest):
            return f"{size / usual:.4g} times the usual {usual:.4g}, and {factor:g} times the largest so far"
        if self._num_above >= PATIENCE_STEPS:
            return f"more than {factor:g} times the usual {usual:.4g} for {self._num_above} steps in a row"
        return None
