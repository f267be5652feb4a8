"""Progress with time left (a bar on a terminal, plain lines elsewhere) and metrics as JSON lines."""

import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from distill.files import write_text

log = logging.getLogger(__name__)

PLAIN_INTERVAL_S = 10.0


class Tracker:
    """Counts finished work; `advance` may carry figures to show beside the count."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done, self._figures = label, total, 0, ""
        self._started = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if _draws_bars():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(label, total=total, figures="")
            self._bar.start()

    def advance(self, count: int = 1, *, figures: Mapping[str, float] | None = None) -> None:
        """Adds `count` finished units."""
        self.done += count
        text = self._figures = "".join(f" {name} {value:.4g}" for name, value in (figures or {}).items())
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, figures=text)
            return
        now = time.monotonic()
        if now - self._last_line >= PLAIN_INTERVAL_S:
            self._last_line = now
            left = (now - self._started) / max(self.done, 1) * max(self.total - self.done, 0)
            log.info("%s: %d of %d, %.0f s left%s", self.label, self.done, self.total, left, text)

    def close(self) -> None:
        """Takes the bar down, or logs the closing line."""
        if self._bar is not None:
            self._bar.stop()
            return
        elapsed_s = time.monotonic() - self._started
        log.info("%s: %d of %d in %.1f s%s", self.label, self.done, self.total, elapsed_s, self._figures)


def _draws_bars() -> bool:
    """Whether this process has the terminal to itself: workers and a launcher's other ranks draw nothing on it."""
    is_main = multiprocessing.parent_process() is None and os.environ.get("RANK", "0") == "0"
    return is_main and sys.stderr.isatty()


@contextmanager
def tracked(label: str, total: int) -> Iterator[Tracker]:
    """A `Tracker` for the length of a `with` block."""
    tracker = Tracker(label, total)
    try:
        yield tracker
    finally:
        tracker.close()


class MetricsWriter:
    """Appends one JSON object a line; after a resume, rows from `keep_below_step` on are dropped first."""

    def __init__(self, path: Path, *, keep_below_step: int | None = None) -> None:
        kept = [] if keep_below_step is None else [r for r in read_metrics(path) if r["step"] < keep_below_step]
        # A loss may be infinite, which `write_jsonl` refuses.
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._handle = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, float]) -> None:
        """Appends a row and flushes it."""
        self._handle.write(json.dumps(dict(row)) + "\n")
        self._handle.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics file, none where it is missing; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            log.warning("%s: left out a line that is not JSON", path)
    return rows
