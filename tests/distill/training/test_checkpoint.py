import logging
from pathlib import Path

import pytest
import torch

from distill.errors import TrainingError
from distill.files import read_json, write_json
from distill.models.world import World
from distill.training.checkpoint import Checkpoint, Checkpoints

ALONE = World(0, 1, 0)


class Engine:
    """Saves and loads one tensor, as DeepSpeed's engine is asked to."""

    def __init__(self, value: float) -> None:
        self.weight = torch.tensor([value])

    def save_checkpoint(self, folder: str, *, tag: str, save_latest: bool, exclude_frozen_parameters: bool) -> None:
        assert not save_latest
        assert exclude_frozen_parameters
        (Path(folder) / tag).mkdir()
        torch.save(self.weight, Path(folder) / tag / "weight.pt")

    def load_checkpoint(self, folder: str, *, tag: str, load_module_strict: bool) -> tuple[str, dict[str, object]]:
        self.weight = torch.load(Path(folder) / tag / "weight.pt", weights_only=True)
        return folder, {}


def checkpoints(folder: Path, *, fingerprint: str = "same", world: World = ALONE, keep_last: int = 2) -> Checkpoints:
    return Checkpoints(folder, fingerprint, world=world, keep_last=keep_last)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_saved_is_loaded(tmp_path: Path):
    checkpoints(tmp_path).save(Engine(1.5), step=7)
    engine = Engine(0.0)
    assert checkpoints(tmp_path).load_newest(engine) == 7
    assert engine.weight.item() == 1.5


def test_an_empty_folder_starts_at_step_zero(tmp_path: Path):
    assert checkpoints(tmp_path / "none").load_newest(Engine(0.0)) == 0


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
        assert checkpoints(tmp_path).load_newest(engine) == 1
    assert engine.weight.item() == 1.0
    assert f"checkpoint {newest} is damaged and passed over" in caplog.text


def test_a_checkpoint_of_other_settings_is_refused_by_name(tmp_path: Path):
    checkpoints(tmp_path).save(Engine(1.0), step=1)
    with pytest.raises(TrainingError, match="step_000001 was made under other settings"):
        checkpoints(tmp_path, fingerprint="other").load_newest(Engine(0.0))


def test_a_checkpoint_of_more_processes_is_refused(tmp_path: Path):
    checkpoints(tmp_path).save(Engine(1.0), step=1)
    path = tmp_path / "step_000001" / "checkpoint.json"
    write_json(path, read_json(path) | {"world_size": 2})
    with pytest.raises(TrainingError, match=r"written by 2 process\(es\), now there are 1"):
        checkpoints(tmp_path).load_newest(Engine(0.0))
