import csv
import json
import sys
from pathlib import Path

import pytest

from distill.errors import RecipeError
from distill.models.world import process_group
from distill.progress import read_metrics
from distill.training import train
from distill.training.monitors import MonitorSettings, configuration, events, monitored, require_monitors
from tests.distill.training.examples import dialogues, new_student, settings

ROW = {"step": 7, "loss": 0.5, "valid_loss": 0.75}


class Lines:
    def __init__(self) -> None:
        self.rows: list[object] = []

    def write(self, row: object) -> None:
        self.rows.append(row)


def test_a_row_becomes_events_at_its_step():
    assert events(ROW) == [("train/loss", 0.5, 7), ("valid/loss", 0.75, 7)]


def test_the_recipe_is_passed_on_in_deepspeeds_words():
    chosen = MonitorSettings(to=("tensorboard", "wandb"), name="run-3", project="cafe", team="baristas")
    assert configuration(chosen, folder=Path("out")) == {
        "tensorboard": {"enabled": True, "output_path": "out/tensorboard", "job_name": "run-3"},
        "wandb": {"enabled": True, "project": "cafe", "team": "baristas", "group": "run-3"},
    }


def test_without_monitors_rows_go_to_the_writer_itself(tmp_path: Path):
    lines = Lines()
    with monitored(lines, MonitorSettings(), output_dir=tmp_path) as writer:
        assert writer is lines
    assert list(tmp_path.iterdir()) == []


def test_a_training_shows_every_row_of_its_metrics_at_its_step(tmp_path: Path):
    """The CSV files hold the loss of metrics.jsonl on the axis of steps, under headers of their own."""
    chosen = settings(max_steps=3, monitor={"to": ["csv"], "name": "tiny"})
    train(new_student(), dialogues(16), settings=chosen, output_dir=tmp_path, seed=1, validation=dialogues(3, seed=1))
    losses = [(row["step"], row["loss"]) for row in read_metrics(tmp_path / "metrics.jsonl") if "loss" in row]
    folder = tmp_path / "monitor" / "csv" / "tiny"
    with (folder / "train_loss.csv").open() as handle:
        header, *written = csv.reader(handle)
    assert header == ["step", "loss"]
    assert [(int(step), float(loss)) for step, loss in written] == losses
    assert {"train_grad_norm.csv", "train_lr.csv", "valid_loss.csv"} <= {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_tensorboard_reads_what_was_shown(tmp_path: Path):
    """TensorBoard's own reader finds the figures, at their steps, in the groups train and valid."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    chosen = MonitorSettings(to=("tensorboard",), name="tiny")
    with process_group(), monitored(Lines(), chosen, output_dir=tmp_path) as writer:
        writer.write(ROW)
        writer.write({"step": 8, "loss": 0.25})
    board = accumulator.EventAccumulator(str(tmp_path / "monitor" / "tensorboard" / "tiny"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(7, 0.5), (8, 0.25)]
    assert [(event.step, event.value) for event in board.Scalars("valid/loss")] == [(7, 0.75)]


WANDB = """
import json, pathlib
calls = []
def init(**arguments): calls.append(["init", arguments])
def log(data, step=None, commit=None): calls.append(["log", data, step])
def finish(): calls.append(["finish"]); pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(calls))
"""


def test_weights_and_biases_gets_project_group_and_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package of W&B's name stands in for it; DeepSpeed's own monitor calls it."""
    (tmp_path / "wandb.py").write_text(WANDB)
    monkeypatch.syspath_prepend(tmp_path)
    chosen, lines = MonitorSettings(to=("wandb",), name="tiny"), Lines()
    require_monitors(chosen)
    try:
        with process_group(), monitored(lines, chosen, output_dir=tmp_path) as writer:
            writer.write(ROW)
    finally:
        sys.modules.pop("wandb", None)
    assert lines.rows == [ROW]
    assert json.loads((tmp_path / "wandb.json").read_text()) == [
        ["init", {"project": "distill", "group": "tiny", "entity": None}],
        ["log", {"train/loss": 0.5}, 7],
        ["log", {"valid/loss": 0.75}, 7],
        ["finish"],
    ]


def test_a_monitor_whose_package_is_missing_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    chosen = settings(monitor={"to": ["wandb"]})
    with pytest.raises(RecipeError, match="monitor.to lists wandb, and package wandb is not installed") as caught:
        train(new_student(), dialogues(8), settings=chosen, output_dir=tmp_path / "run", seed=1)
    assert caught.value.fix.startswith("pip install wandb")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"to": ["csv"], "project": "cafe"}, "project is cafe, and to lists no wandb"),
        ({"to": ["csv"], "name": "../up"}, "it names a folder"),
    ],
)
def test_settings_that_nothing_would_read_are_refused(section: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        MonitorSettings.model_validate(section)
