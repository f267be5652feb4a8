"""Checkpoints: visible whole or not at all, verified before use, the newest sound one is resumed from."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.errors import DataError, TrainingError
from distill.files import read_json, sha256_of_file, write_json
from distill.models.world import World

log = logging.getLogger(__name__)

FORMAT = "distill-checkpoint"
VERSION = 1
RECORD_NAME = "checkpoint.json"
ENGINE_TAG = "engine"


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: the state after `step` optimizer steps."""

    folder: Path
    step: int


class Checkpoints:
    """The folder of checkpoints of one training run.

    Everything random in a step (order, dropout) is a function of seed, step and rank, so no generator's state is kept:
    weights, optimizer state and the step number are all that a continued run needs to be the uninterrupted one.

    Args:
        folder: holds one folder a checkpoint.
        fingerprint: of settings, seed and data; a checkpoint made under another is refused.
        world: all ranks call `save` and `load` together.
        keep_last: older checkpoints are deleted.
    """

    def __init__(self, folder: Path, fingerprint: str, *, world: World, keep_last: int) -> None:
        self.folder, self.fingerprint, self.world, self.keep_last = folder, fingerprint, world, keep_last

    def save(self, engine: Any, *, step: int) -> None:
        """Writes the state after `step` steps; a run that dies meanwhile leaves the earlier checkpoints alone."""
        final = self.folder / f"step_{step:06d}"
        partial = self.folder / f".{final.name}.partial"
        if self.world.is_main:
            for folder in (final, partial):
                shutil.rmtree(folder, ignore_errors=True)
            partial.mkdir(parents=True)
        self.world.wait()
        engine.save_checkpoint(str(partial), tag=ENGINE_TAG, save_latest=False, exclude_frozen_parameters=True)
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
                "files": files,
            }
            write_json(partial / RECORD_NAME, record)
            partial.rename(final)
            for old in self._folders()[: -self.keep_last]:
                shutil.rmtree(old)
        self.world.wait()

    def load_newest(self, engine: Any) -> int:
        """Puts the newest sound checkpoint into the engine; returns its step, 0 where there is none.

        Raises:
            TrainingError: that checkpoint was made under other settings or by another number of processes.
        """
        newest = self.newest() if self.world.is_main else None
        step = self.world.from_main(0 if newest is None else newest.step)
        if step == 0:
            return 0
        folder = self.folder / f"step_{step:06d}"
        engine.load_checkpoint(str(folder), tag=ENGINE_TAG, load_module_strict=False)
        log.info("resumed from %s", folder)
        return step

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint whose files are what was written; damaged ones are passed over with a warning.

        Raises:
            TrainingError: it was made under other settings or by another number of processes.
        """
        for folder in reversed(self._folders()):
            try:
                record = _verified_record(folder)
            except DataError as error:
                log.warning("checkpoint %s is damaged and passed over: %s", folder, error)
                continue
            self._require_own(folder, record)
            return Checkpoint(folder, int(str(record["step"])))
        return None

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step_*") if path.is_dir())

    def _require_own(self, folder: Path, record: dict[str, object]) -> None:
        fix = f"put the settings back, or delete {self.folder} to train from the start"
        if record["fingerprint"] != self.fingerprint:
            raise TrainingError(
                f"checkpoint {folder} was made under other settings, seed or data",
                why="going on from it would give a model that no recipe describes",
                fix=fix,
            )
        if record["world_size"] != self.world.world_size:
            raise TrainingError(
                f"checkpoint {folder} was written by {record['world_size']} process(es), now there are "
                f"{self.world.world_size}",
                why="each process holds its own part of the optimizer's state",
                fix=f"start {record['world_size']} process(es), or delete {self.folder} to train from the start",
            )


def _verified_record(folder: Path) -> dict[str, object]:
    """The record of a checkpoint whose files all match their checksums.

    Raises:
        DataError: record or file missing, of another format, or changed.
    """
    record = read_json(folder / RECORD_NAME)
    if (record.get("format"), record.get("version")) != (FORMAT, VERSION):
        raise DataError(f"{folder / RECORD_NAME} says {json.dumps(record.get('format'))}", why=f"{FORMAT} was expected")
    files = record.get("files")
    if not isinstance(files, dict) or not {"step", "fingerprint", "world_size"} <= record.keys():
        raise DataError(f"{folder / RECORD_NAME} lacks a field")
    for name, checksum in files.items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing")
        if sha256_of_file(path) != checksum:
            raise DataError(f"{path} has changed since it was written")
    return record
