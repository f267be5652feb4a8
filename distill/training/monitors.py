"""Metrics in TensorBoard, Weights & Biases or CSV files, through DeepSpeed's monitor; metrics.jsonl has them anyway."""

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import Field, model_validator

from distill.errors import RecipeError
from distill.models.world import import_deepspeed
from distill.settings import Settings

MonitorName = Literal["tensorboard", "wandb", "csv"]

FOLDER_NAME = "monitor"
PACKAGES: dict[MonitorName, str] = {"tensorboard": "tensorboard", "wandb": "wandb"}
"""What has to be installed for a monitor; `csv` needs nothing."""


class MonitorSettings(Settings):
    """Where metrics go beside metrics.jsonl. TensorBoard and CSV files lie in `monitor/` of the run's folder."""

    to: tuple[MonitorName, ...] = Field((), description="any of tensorboard, wandb, csv")
    name: str = Field("train", min_length=1, description="of the run: a folder in monitor/, the group in W&B")
    project: str | None = Field(None, description="of W&B; none: distill")
    team: str | None = Field(None, description="of W&B; none: the user's own account")

    @model_validator(mode="after")
    def _is_read(self) -> Self:
        for field in ("project", "team"):
            value = getattr(self, field)
            if value is not None and "wandb" not in self.to:
                raise ValueError(f"{field} is {value}, and to lists no wandb, which alone reads it")
        if "/" in self.name or self.name.startswith("."):
            raise ValueError(f"name is {self.name!r}: it names a folder, so no / and no . in front")
        return self


class RowWriter(Protocol):
    """What takes rows of metrics."""

    def write(self, row: Mapping[str, float]) -> None:
        """Keeps a row, whose `step` is its place on the axis."""


def require_monitors(settings: MonitorSettings) -> None:
    """Refuses monitors whose packages are not installed.

    Raises:
        RecipeError: names the package and the command that installs it.
    """
    for name in settings.to:
        package = PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise RecipeError(
                f"monitor.to lists {name}, and package {package} is not installed",
                why="its metrics could not be written; metrics.jsonl has the same and needs nothing",
                fix=f"pip install {package}, or leave {name} out of monitor.to",
            )


def configuration(settings: MonitorSettings, *, folder: Path) -> dict[str, dict[str, Any]]:
    """The blocks of a DeepSpeed configuration that turn these monitors on.

    Args:
        settings: which, and by what names.
        folder: gets TensorBoard's and CSV files.
    """
    blocks: dict[MonitorName, tuple[str, dict[str, Any]]] = {
        "tensorboard": ("tensorboard", {"output_path": str(folder / "tensorboard"), "job_name": settings.name}),
        "csv": ("csv_monitor", {"output_path": str(folder / "csv"), "job_name": settings.name}),
        "wandb": (
            "wandb",
            {"project": settings.project or "distill", "team": settings.team, "group": settings.name},
        ),
    }
    return {blocks[name][0]: {"enabled": True, **blocks[name][1]} for name in settings.to}


@contextmanager
def monitored(writer: RowWriter, settings: MonitorSettings, *, output_dir: Path) -> Iterator[RowWriter]:
    """A writer that also shows every row in the recipe's monitors, for the length of a `with` block.

    The monitors are DeepSpeed's, but not the engine's own, which would write the learning rate a second time, at the
    number of samples in place of the step. After a resume, steps that are done again appear twice.

    Args:
        writer: gets each row first.
        settings: which monitors; none: the writer alone.
        output_dir: of the run; the main rank calls this, DeepSpeed's process group stands.
    """
    if not settings.to:
        yield writer
        return
    import_deepspeed()
    config = importlib.import_module("deepspeed.monitor.config")
    blocks = configuration(settings, folder=output_dir / FOLDER_NAME)
    master = importlib.import_module("deepspeed.monitor.monitor").MonitorMaster(config.get_monitor_config(blocks))
    try:
        yield _Monitored(writer, master)
    finally:
        if master.tb_monitor is not None:
            master.tb_monitor.summary_writer.close()
        if master.wandb_monitor is not None:
            importlib.import_module("wandb").finish()


def events(row: Mapping[str, float]) -> list[tuple[str, float, int]]:
    """A row as (name, value, step); figures of held-out examples are grouped apart."""
    step = int(row["step"])
    named = {name: value for name, value in row.items() if name != "step"}
    return [(_label(name), float(value), step) for name, value in named.items()]


class _Monitored:
    def __init__(self, writer: RowWriter, master: Any) -> None:
        self._writer, self._master = writer, master

    def write(self, row: Mapping[str, float]) -> None:
        self._writer.write(row)
        self._master.write_events(events(row))


def _label(name: str) -> str:
    return f"valid/{name.removeprefix('valid_')}" if name.startswith("valid_") else f"train/{name}"
