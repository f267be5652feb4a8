import logging
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from distill.errors import TrainingError
from distill.files import read_json, write_json
from distill.models.world import World
from distill.training.checkpoint import Checkpoint, Checkpoints
from distill.training.held_out import HeldOutLosses

ALONE = World(0, 1, 0)


class Engine:
    """Saves and loads one tensor, as DeepSpeed's engine is asked to."""

    def __init__(self, value: float) -> None:
        self.weight = torch.tensor([value])

    def zero_optimization_stage(self) -> int:
        return 0

    def save_checkpoint(self, folder: str, *, tag: str, save_latest: bool, exclude_frozen_parameters: bool) -> None:
        assert not save_latest
        assert exclude_frozen_parameters
        (Path(folder) / tag).mkdir()
        torch.save(self.weight, Path(folder) / tag / "weight.pt")

    def load_checkpoint(self, folder: str, *, tag: str, load_module_strict: bool) -> tuple[str, dict[str, object]]:
        self.weight = torch.load(Path(folder) / tag / "weight.pt", weights_only=True)
        return folder, {}


def checkpoints(folder: Path, *, fingerprint: str = "same", keep_last: int = 2, keep_best: bool = False) -> Checkpoints:
    return Checkpoints(folder, fingerprint, world=ALONE, keep_last=keep_last, keep_best=keep_best)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_is_loaded(tmp_path: Path):
    checkpoints(tmp_path).save(Engine(1.5), step=7)
    engine = Engine(0.0)
    loaded = checkpoints(tmp_path).load_newest(engine)
    assert loaded == Checkpoint(tmp_path / "step_000007", 7)
    assert engine.weight.item() == 1.5


def test_an_empty_folder_starts_at_step_zero(tmp_path: Path):
    assert checkpoints(tmp_path / "none").load_newest(Engine(0.0)) is None


def test_only_the_last_ones_are_kept(tmp_path: Path):
    for step in (1, 2, 3):
        checkpoints(tmp_path).save(Engine(step), step=step)
    assert names(tmp_path) == ["step_000002", "step_000003"]


def test_a_save_that_was_cut_off_is_never_seen(tmp_path: Path):
    """A process that died while writing leaves the hidden partial folder, which the next save of that step clears."""
    checkpoints(tmp_path).save(Engine(1.0), step=1)
    (tmp_path / ".step_000002.partial" / "engine").mkdir(parents=True)
    assert checkpoints(tmp_path).newest() == Checkpoint(tmp_path / "step_000001", 1)
    checkpoints(tmp_path).save(Engine(2.0), step=2)
    assert names(tmp_path) == ["step_000001", "step_000002"]


@pytest.mark.parametrize("harm", ["cut", "missing", "record", "version"])
def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: str):
    for step in (1, 2):
        checkpoints(tmp_path).save(Engine(step), step=step)
    newest = tmp_path / "step_000002"
    weight, record = newest / "engine" / "weight.pt", newest / "checkpoint.json"
    if harm == "cut":
        weight.write_bytes(weight.read_bytes()[:-1])
    elif harm == "missing":
        weight.unlink()
    elif harm == "record":
        record.write_text("{")
    else:
        write_json(record, read_json(record) | {"version": 99})
    engine = Engine(0.0)
    with caplog.at_level(logging.WARNING):
        assert checkpoints(tmp_path).load_newest(engine) == Checkpoint(tmp_path / "step_000001", 1)
    assert engine.weight.item() == 1.0
    assert f"checkpoint {newest} is damaged and passed over" in caplog.text


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path: Path):
    checkpoints(tmp_path).save(Engine(1.0), step=1)
    with pytest.raises(TrainingError, match="step_000001 was made under other settings"):
        checkpoints(tmp_path, fingerprint="other").load_newest(Engine(0.0))


def test_a_checkpoint_of_more_processes_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    checkpoints(tmp_path).save(Engine(1.0), step=1)
    path = tmp_path / "step_000001" / "checkpoint.json"
    write_json(path, read_json(path) | {"world_size": 2})
    engine = Engine(0.0)
    with caplog.at_level(logging.INFO):
        loaded = checkpoints(tmp_path).load_newest(engine)
    assert (loaded, engine.weight.item()) == (Checkpoint(tmp_path / "step_000001", 1, world_size=2), 1.0)
    assert "step_000001 was written by 2 process(es), now 1" in caplog.text


def test_the_best_is_kept_besides_the_last_and_given_up_for_a_better_one(tmp_path: Path):
    losses = HeldOutLosses()
    kept = []
    for step, loss in enumerate([3.0, 1.0, 2.0, 2.0, 0.5], start=1):
        losses = losses.after(step, loss)
        checkpoints(tmp_path, keep_last=1, keep_best=True).save(Engine(step), step=step, held_out=losses)
        kept.append([int(name[-1]) for name in names(tmp_path)])
    assert kept == [[1], [2], [2, 3], [2, 4], [5]]
    loaded = checkpoints(tmp_path).newest()
    assert loaded is not None
    assert loaded.held_out == losses


def test_steps_are_ordered_by_number(tmp_path: Path):
    for step in (999_999, 1_000_000):
        checkpoints(tmp_path).save(Engine(step), step=step)
    assert checkpoints(tmp_path).newest() == Checkpoint(tmp_path / "step_1000000", 1_000_000)


class FullDisk(Engine):
    """An engine whose disk fills up while it writes."""

    def __init__(self, error: Exception) -> None:
        super().__init__(0.0)
        self.error = error

    def save_checkpoint(self, folder: str, *, tag: str, save_latest: bool, exclude_frozen_parameters: bool) -> None:
        super().save_checkpoint(
            folder, tag=tag, save_latest=save_latest, exclude_frozen_parameters=exclude_frozen_parameters
        )
        raise self.error


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("unexpected pos 576 vs 534"), SafetensorError("I/O error")],
    ids=lambda error: type(error).__name__,
)
def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path: Path, error: Exception):
    checkpoints(tmp_path).save(Engine(1.0), step=1)
    with pytest.raises(
        TrainingError, match=r"the checkpoint of step 2 cannot be written: .*\nwhy: \d+\.\d\d GiB are free"
    ):
        checkpoints(tmp_path).save(FullDisk(error), step=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]
    assert checkpoints(tmp_path).newest() == Checkpoint(tmp_path / "step_000001", 1)


def test_what_is_written_beside_the_engine_is_verified_too(tmp_path: Path):
    checkpoints(tmp_path).save(Engine(1.0), step=1, write_more=lambda folder: write_json(folder / "more.json", {}))
    path = tmp_path / "step_000001" / "more.json"
    assert read_json(path) == {}
    path.write_text("[]")
    assert checkpoints(tmp_path).newest() is None


def test_what_killed_runs_left_goes_away_at_the_next_start(tmp_path: Path):
    checkpoints(tmp_path).save(Engine(1.0), step=1)
    for name in (
        ".step_000002.partial",
        ".step_000001.outgoing",
        ".step_000001.universal",
        "..step_000001.universal.x",
    ):
        (tmp_path / name / "engine").mkdir(parents=True)
    checkpoints(tmp_path).load_newest(Engine(0.0))
    assert [path.name for path in tmp_path.iterdir()] == ["step_000001"]


def test_a_sound_checkpoint_outlives_damaged_later_ones(tmp_path: Path):
    """Resumed from step 1 past two damaged ones: what is saved next is kept, and they go."""
    for step in (1, 3, 4):
        checkpoints(tmp_path, keep_last=3).save(Engine(step), step=step)
    for step in (3, 4):
        (tmp_path / f"step_{step:06d}" / "engine" / "weight.pt").unlink()
    checkpoints(tmp_path).save(Engine(2.0), step=2)
    assert names(tmp_path) == ["step_000001", "step_000002"]


@pytest.mark.parametrize("change", [{"step": 5}, {"step": "2"}, {"files": {}}, {"held_out": 3}])
def test_a_record_of_something_else_is_passed_over(tmp_path: Path, change: dict[str, object]):
    checkpoints(tmp_path).save(Engine(1.0), step=2)
    path = tmp_path / "step_000002" / "checkpoint.json"
    write_json(path, read_json(path) | change)
    assert checkpoints(tmp_path).newest() is None


def test_a_file_that_was_put_beside_the_others_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    checkpoints(tmp_path).save(Engine(1.0), step=2)
    (tmp_path / "step_000002" / "engine" / "more.pt").write_text("here")
    assert checkpoints(tmp_path).newest() is None
    assert "engine/more.pt is not in checkpoint.json" in caplog.text
