"""How a training run ended; the file that marks a run as finished."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

from distill.errors import DataError
from distill.files import read_json, write_json
from distill.progress import read_metrics

REPORT_NAME = "train_report.json"
METRICS_NAME = "metrics.jsonl"
MODEL_NAME = "model"


StopReason = Literal["all steps taken", "no improvement"]


@dataclass(frozen=True)
class Ending:
    """Why a run stopped, which step's weights its model has, and whether they are a moving average."""

    stop_reason: StopReason
    model_step: int
    is_average: bool


@dataclass(frozen=True)
class TrainReport:
    """How a training run ended; losses are those of the last step and of the last held-out pass.

    `best_step` is the step of the lowest held-out loss; `model_step` the one whose weights `model_folder` holds, or
    whose moving average (`is_average`).
    """

    final_step: int
    final_loss: float | None
    valid_loss: float | None
    best_step: int | None
    best_valid_loss: float | None
    stop_reason: StopReason
    model_step: int
    is_average: bool
    num_tokens: int
    elapsed_s: float
    tokens_per_s: float
    metrics_path: Path
    model_folder: Path

    def to_json(self) -> dict[str, object]:
        """The report as JSON-able values, paths as text."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}


def report_of(output_dir: Path, ending: Ending) -> TrainReport:
    """The report that a folder's metrics and the run's ending tell; the last row written is of the last step."""
    path = output_dir / METRICS_NAME
    rows = read_metrics(path)
    steps = [row for row in rows if "loss" in row]
    held_out = [row for row in rows if "valid_loss" in row]
    best = min(held_out, key=lambda row: (_comparable(row["valid_loss"]), row["step"])) if held_out else None
    elapsed_s = max((row["elapsed_s"] for row in rows), default=0.0)
    num_tokens = int(steps[-1]["total_tokens"]) if steps else 0
    return TrainReport(
        final_step=int(steps[-1]["step"]) if steps else 0,
        final_loss=steps[-1]["loss"] if steps else None,
        valid_loss=held_out[-1]["valid_loss"] if held_out else None,
        best_step=None if best is None else int(best["step"]),
        best_valid_loss=None if best is None else best["valid_loss"],
        stop_reason=ending.stop_reason,
        model_step=ending.model_step,
        is_average=ending.is_average,
        num_tokens=num_tokens,
        elapsed_s=elapsed_s,
        tokens_per_s=num_tokens / max(elapsed_s, 1e-9),
        metrics_path=path,
        model_folder=output_dir / MODEL_NAME,
    )


def finished_report(output_dir: Path, identity: str) -> TrainReport | None:
    """The report of a folder whose run ended with this fingerprint; `None` where there is work to do."""
    try:
        mark = read_json(output_dir / REPORT_NAME)
    except DataError:
        return None
    if mark.get("fingerprint") != identity or not (output_dir / MODEL_NAME).is_dir():
        return None
    stop_reason = cast(StopReason, mark["stop_reason"])
    return report_of(output_dir, Ending(stop_reason, int(str(mark["model_step"])), bool(mark["is_average"])))


def mark_finished(output_dir: Path, identity: str, ending: Ending) -> None:
    """Writes the file that says the run is over."""
    report = report_of(output_dir, ending).to_json()
    del report["metrics_path"], report["model_folder"]
    sound = {name: None if _is_infinite(value) else value for name, value in report.items()}
    write_json(output_dir / REPORT_NAME, {"fingerprint": identity, **sound})


def _comparable(loss: float) -> float:
    """As `HeldOutLosses` takes it: what is not finite is infinite."""
    return loss if math.isfinite(loss) else math.inf


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
