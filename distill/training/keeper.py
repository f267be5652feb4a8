"""What stays of a run: its checkpoints, the best of them, the average of its weights, its final model."""

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from distill.errors import DataError, TrainingError
from distill.models import LoadedModel
from distill.models.world import World
from distill.training.checkpoint import Checkpoints, verified_record
from distill.training.disk import told_if_unwritable
from distill.training.ema import MovingAverage
from distill.training.final_model import copy_model, save_student
from distill.training.guard import LossGuard
from distill.training.held_out import HeldOutLosses
from distill.training.report import MODEL_NAME, Ending, StopReason, mark_finished
from distill.training.settings import TrainSettings

log = logging.getLogger(__name__)


class Companion(Protocol):
    """What a run knows beside weights and losses, and needs to go on as if it had not been cut off."""

    def save(self, folder: Path) -> None:
        """Writes it into a checkpoint; called on the main rank."""

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote; called on every rank."""


class Keeper:
    """Saves and resumes one run, and decides by its held-out losses; all ranks call everything here together.

    Args:
        engine: the run's.
        student: the model inside the engine.
        settings: what is kept, and when the run stops.
        world: whose main rank decides for all.
        output_dir: gets checkpoints/ and model/.
        identity: the fingerprint of the run.
        guard: what it knows of the losses is kept with the checkpoints.

    Attributes:
        companion: is saved with the checkpoints and loaded with the newest; none: nothing more is.
    """

    def __init__(
        self,
        engine: Any,
        student: LoadedModel,
        settings: TrainSettings,
        *,
        world: World,
        output_dir: Path,
        identity: str,
        guard: LossGuard,
    ) -> None:
        self.guard = guard
        self.engine, self.student, self.settings, self.world = engine, student, settings, world
        self.output_dir, self.identity = output_dir, identity
        self.held_out, self.is_over = HeldOutLosses(), False
        self.companion: Companion | None = None
        decay = settings.ema_decay
        self.average = None if decay is None else MovingAverage(engine.module, decay)
        self.checkpoints = Checkpoints(
            output_dir / "checkpoints",
            identity,
            world=world,
            keep_last=settings.keep_last,
            keep_best=settings.keep_best,
        )

    def resume(self) -> int:
        """Takes up the newest checkpoint; returns how many steps are done."""
        newest = self.checkpoints.load_newest(self.engine)
        if newest is None:
            return 0
        self.held_out = newest.held_out
        self.guard.load(newest.folder)
        if self.companion is not None:
            self.companion.load(newest.folder)
        if self.average is not None:
            self.average.load(newest.folder)
        self._decide()
        return newest.step

    def after_update(self, step: int) -> None:
        """Takes the weights after step `step`, counted from 1, into their average."""
        if self.average is not None:
            self.average.update(step=step)

    def in_place(self) -> AbstractContextManager[None]:
        """Inside the block the student has the weights that would be its result: their average, where there is one."""
        return nullcontext() if self.average is None else self.average.in_place()

    def take(self, *, step: int, valid_loss: float) -> None:
        """Decides by one more held-out loss, in nats, whether the run is over."""
        self.held_out = self.held_out.after(step, valid_loss)
        self._decide()

    def _decide(self) -> None:
        """The main rank's decision, so that no rounding of one rank parts it from the others."""
        own = int(self.held_out.is_time_to_stop(self.settings))
        self.is_over = self.world.from_main(own) == 1

    def is_new_best(self, step: int) -> bool:
        """Whether the held-out loss after `step` is the lowest so far and its checkpoint is to be kept."""
        return self.settings.keep_best and self.world.from_main(int(self.held_out.best_step == step)) == 1

    def save(self, step: int) -> None:
        """A checkpoint of the state after `step` steps, with a model folder where one is asked for or needed."""
        is_needed = self.settings.final_model == "best" and self.is_new_best(step)
        has_model = self.settings.save_models or is_needed

        def write_more(folder: Path) -> None:
            if self.world.is_main:
                self.guard.save(folder)
                if self.companion is not None:
                    self.companion.save(folder)
            if self.average is not None and self.world.is_main:
                self.average.save(folder)
            if has_model:
                self._save_model(folder / MODEL_NAME)

        self.checkpoints.save(self.engine, step=step, held_out=self.held_out, write_more=write_more)

    def finish(self, *, last_step: int, num_steps: int) -> Ending:
        """Writes the final model and marks the run as finished, `last_step` of `num_steps` steps taken."""
        step, folder = last_step, self.output_dir / MODEL_NAME
        if self.settings.final_model == "best":
            step = self.world.from_main(self.held_out.best_step or last_step)
            best = self._best_model(step)
            with told_if_unwritable("the final model", self.output_dir):
                copy_model(best, folder, world=self.world)
        else:
            with told_if_unwritable("the final model", self.output_dir):
                self._save_model(folder)
        reason: StopReason = "no improvement" if last_step < num_steps else "all steps taken"
        log.info("stopped after step %d of %d: %s; the model is that of step %d", last_step, num_steps, reason, step)
        ending = Ending(reason, step, self.average is not None)
        if self.world.is_main:
            mark_finished(self.output_dir, self.identity, ending)
        self.world.wait()
        return ending

    def _save_model(self, folder: Path) -> None:
        with self.in_place():
            save_student(self.engine, self.student, folder, settings=self.settings, world=self.world)

    def _best_model(self, step: int) -> Path:
        folder = self.checkpoints.folder_of(step) / MODEL_NAME
        if not folder.is_dir():
            raise TrainingError(
                f"{folder} is missing",
                why=f"step {step} has the lowest held-out loss, and final_model is best",
                fix=f"delete {self.output_dir} to train from the start, or set final_model=last",
            )
        if self.world.is_main:
            try:
                verified_record(folder.parent)
            except DataError as error:
                raise TrainingError(
                    f"the best checkpoint is damaged: {error}",
                    why=f"step {step} has the lowest held-out loss, and final_model is best",
                    fix="set final_model=last, which takes the weights as they are now",
                ) from error
        return folder
