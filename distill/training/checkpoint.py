"""Checkpoints: visible whole or not at all, verified before use, the newest sound one is resumed from."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import DataError, TrainingError
from distill.files import read_json, sha256_of_file, write_json
from distill.models.world import World
from distill.training.disk import told_if_unwritable
from distill.training.held_out import HeldOutLosses
from distill.training.universal import load_across_world_sizes

log = logging.getLogger(__name__)

FORMAT = "distill-checkpoint"
VERSION = 2
RECORD_NAME = "checkpoint.json"
ENGINE_TAG = "engine"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: the state after `step` optimizer steps, and the held-out losses up to there."""

    folder: Path
    step: int
    world_size: int = 1
    held_out: HeldOutLosses = field(default_factory=HeldOutLosses)


class Checkpoints:
    """The folder of checkpoints of one training run.

    Everything random in a step (order, dropout) is a function of seed, step and rank, so no generator's state is kept:
    weights, optimizer state and the step number are all that a continued run needs to be the uninterrupted one.

    Args:
        folder: holds one folder a checkpoint.
        fingerprint: of settings, seed and data; a checkpoint made under another is refused.
        world: all ranks call `save` and `load` together.
        keep_last: older checkpoints are deleted.
        keep_best: but for the one with the lowest held-out loss.
    """

    def __init__(
        self, folder: Path, fingerprint: str, *, world: World, keep_last: int, keep_best: bool = False
    ) -> None:
        self.folder, self.fingerprint, self.world = folder, fingerprint, world
        self.keep_last, self.keep_best = keep_last, keep_best

    def folder_of(self, step: int) -> Path:
        """Where the checkpoint after `step` steps lies, if it is kept."""
        return self.folder / _name(step)

    def save(
        self,
        engine: Any,
        *,
        step: int,
        held_out: HeldOutLosses | None = None,
        write_more: Callable[[Path], None] | None = None,
    ) -> None:
        """Writes the state after `step` steps; a run that dies meanwhile leaves the earlier checkpoints alone.

        Args:
            engine: whose state it is.
            step: how many steps it took.
            held_out: the losses so far.
            write_more: called on all ranks with the folder, for files beside the engine's.

        Raises:
            TrainingError: it cannot be written; nothing half-written stays.
        """
        partial = self.folder / f".{self.folder_of(step).name}.partial"
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with told_if_unwritable(f"the checkpoint of step {step}", self.folder):
                self._write(engine, partial, step=step, held_out=held_out or HeldOutLosses(), write_more=write_more)
        except TrainingError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self.world.wait()

    def _write(
        self,
        engine: Any,
        partial: Path,
        *,
        step: int,
        held_out: HeldOutLosses,
        write_more: Callable[[Path], None] | None,
    ) -> None:
        if self.world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        self.world.wait()
        engine.save_checkpoint(str(partial), tag=ENGINE_TAG, save_latest=False, exclude_frozen_parameters=True)
        if write_more is not None:
            write_more(partial)
        self.world.wait()
        if self.world.is_main:
            files = {
                path.relative_to(partial).as_posix(): sha256_of_file(path)
                for path in sorted(partial.rglob("*"))
                if path.is_file()
            }
            record = {
                "format": FORMAT,
                "version": VERSION,
                "step": step,
                "fingerprint": self.fingerprint,
                "world_size": self.world.world_size,
                "held_out": held_out.to_json(),
                "files": files,
            }
            write_json(partial / RECORD_NAME, record)
            _discard(self.folder_of(step))
            partial.rename(self.folder_of(step))
            for old in self._superfluous(step, held_out):
                _discard(old)

    def load_newest(self, engine: Any) -> Checkpoint | None:
        """Puts the newest sound checkpoint into the engine and returns it; `None` where there is none.

        One that another number of processes wrote is joined and cut anew (`universal`).

        Raises:
            TrainingError: that checkpoint was made under other settings.
        """
        newest = None
        if self.world.is_main:
            for left in self.folder.glob(".*step_*"):
                shutil.rmtree(left)
            newest = self.newest()
        step = self.world.from_main(0 if newest is None else newest.step)
        if step == 0:
            return None
        folder = self.folder_of(step)
        checkpoint = _read(folder, read_json(folder / RECORD_NAME)) if newest is None else newest
        if checkpoint.world_size == self.world.world_size:
            engine.load_checkpoint(str(folder), tag=ENGINE_TAG, load_module_strict=False)
        else:
            log.info("%s was written by %d process(es), now %d", folder, checkpoint.world_size, self.world.world_size)
            load_across_world_sizes(engine, folder, tag=ENGINE_TAG, world=self.world)
        log.info("resumed from %s", folder)
        return checkpoint

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint whose files are what was written; damaged ones are passed over with a warning.

        Raises:
            TrainingError: it was made under other settings.
        """
        for folder in reversed(self._folders()):
            try:
                record = verified_record(folder)
                checkpoint = _read(folder, record)
            except (DataError, ValueError) as error:
                log.warning("checkpoint %s is damaged and passed over: %s", folder, error)
                continue
            self._require_own(folder, record)
            return checkpoint
        return None

    def _folders(self) -> list[Path]:
        return sorted(
            (path for path in self.folder.glob("step_*") if path.is_dir()),
            key=lambda path: (len(path.name), path.name),
        )

    def _superfluous(self, step: int, held_out: HeldOutLosses) -> list[Path]:
        """Those beyond the last `keep_last` up to `step`; the best is none of them.

        Later ones were passed over at the start as damaged, and this run writes them anew.
        """
        best = self.folder_of(held_out.best_step) if self.keep_best and held_out.best_step is not None else None
        folders = self._folders()
        number = folders.index(self.folder_of(step)) + 1
        return [f for f in (*folders[:number][: -self.keep_last], *folders[number:]) if f != best]

    def _require_own(self, folder: Path, record: dict[str, object]) -> None:
        if record["fingerprint"] != self.fingerprint:
            raise TrainingError(
                f"checkpoint {folder} was made under other settings, seed or data",
                why="going on from it would give a model that no recipe describes",
                fix=f"put the settings back, or delete {self.folder} to train from the start",
            )


def _name(step: object) -> str:
    return f"step_{step:06d}" if isinstance(step, int) else ""


def _discard(folder: Path) -> None:
    """Deletes a checkpoint; a run that dies meanwhile leaves no damaged one behind."""
    if folder.exists():
        hidden = folder.with_name(f".{folder.name}.outgoing")
        shutil.rmtree(hidden, ignore_errors=True)
        folder.rename(hidden)
        shutil.rmtree(hidden)


def _read(folder: Path, record: dict[str, object]) -> Checkpoint:
    """What a verified record says."""
    return Checkpoint(
        folder, int(str(record["step"])), int(str(record["world_size"])), HeldOutLosses.from_json(record["held_out"])
    )


def verified_record(folder: Path) -> dict[str, object]:
    """The record of a checkpoint whose files all match their checksums.

    It tells damage, not malice: whoever can change the files can change the record.

    Raises:
        DataError: record or file missing, of another format, changed, or not of this folder.
    """
    record = read_json(folder / RECORD_NAME)
    if (record.get("format"), record.get("version")) != (FORMAT, VERSION):
        found = f"{json.dumps(record.get('format'))}, version {json.dumps(record.get('version'))}"
        raise DataError(f"{folder / RECORD_NAME} says {found}", why=f"{FORMAT}, version {VERSION} was expected")
    files = record.get("files")
    if not isinstance(files, dict) or not {"step", "fingerprint", "world_size", "held_out"} <= record.keys():
        raise DataError(f"{folder / RECORD_NAME} lacks a field")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {RECORD_NAME}
    if surplus := sorted(present - files.keys()):
        raise DataError(f"{folder / surplus[0]} is not in {RECORD_NAME}")
    if not any(name.startswith(f"{ENGINE_TAG}/") for name in files) or folder.name != _name(record["step"]):
        raise DataError(f"{folder / RECORD_NAME} is not the record of this folder")
    for name, checksum in files.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing")
        if sha256_of_file(path) != checksum:
            raise DataError(f"{path} has changed since it was written")
    return record
