"""One training run in one process: steps, logs, checkpoints and held-out losses, whatever makes the batches."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from distill.models import LoadedModel
from distill.models.packed_student import PackedStudent
from distill.models.world import World
from distill.objectives import OutputHead
from distill.progress import MetricsWriter, Tracker, read_metrics, tracked
from distill.teacher_cache import Prefetched, prefetched
from distill.training.agreement import require_one_form
from distill.training.alignment import require_aligned
from distill.training.clock import Clock
from distill.training.engine import clips_outside, memory_plan, start_engine
from distill.training.failed_step import write_failed_step
from distill.training.feed import Feed, GlobalBatch
from distill.training.first_step import coarsest_precision, require_reference_start
from distill.training.keeper import Companion, Keeper
from distill.training.monitors import RowWriter, monitored
from distill.training.report import METRICS_NAME, TrainReport, report_of
from distill.training.schedule import lr_at, num_steps
from distill.training.seeds import fold_seed, set_seed
from distill.training.settings import TrainSettings
from distill.training.step import StudentStep, UnsoundStepError

log = logging.getLogger(__name__)


class BatchSource(Protocol):
    """Makes the global batches of a run's steps, counted from 0."""

    def read_ahead(self, step: int) -> GlobalBatch | None:
        """The batch, made while earlier steps are taken; None where it depends on the weights of its moment."""

    def batch(self, step: int) -> GlobalBatch:
        """The batch of a step that cannot be read ahead, by the weights of now."""

    def figures(self, metrics: Mapping[str, float], *, step: int) -> dict[str, float]:
        """A step's metrics with what the source knows of its batch."""


class FeedSource:
    """The batches of a feed, all of which can be read ahead."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def read_ahead(self, step: int) -> GlobalBatch | None:
        """The feed's batch."""
        return self._feed.step(step)

    def batch(self, step: int) -> GlobalBatch:
        """The same."""
        return self._feed.step(step)

    def figures(self, metrics: Mapping[str, float], *, step: int) -> dict[str, float]:
        """The metrics as they are."""
        return dict(metrics)


class TrainingRun:
    """One training run in one process: engine, step and files."""

    def __init__(
        self,
        student: LoadedModel,
        settings: TrainSettings,
        *,
        world: World,
        output_dir: Path,
        seed: int,
        identity: str,
        head: OutputHead | None,
    ) -> None:
        self.settings, self.world, self.output_dir, self.seed = settings, world, output_dir, seed
        self.tokenizer, self.precision = student.tokenizer, coarsest_precision(student, settings)
        module = prepared_module(student, settings)
        self.form = module.form
        require_one_form(self.form, world)
        self.engine = start_engine(module, settings)
        self.step = StudentStep(
            self.engine,
            settings,
            world=world,
            teacher_head=head,
            clips_outside=clips_outside(memory_plan(settings), settings),
        )
        guard = self.step.guard
        self.keeper = Keeper(
            self.engine, student, settings, world=world, output_dir=output_dir, identity=identity, guard=guard
        )

    def to_the_end(
        self,
        source: BatchSource,
        *,
        num_examples: int,
        checked: Feed | None = None,
        valid_feed: Feed | None = None,
        companion: Companion | None = None,
    ) -> TrainReport:
        """All steps that are left, then the model and the report.

        Args:
            source: makes the batches.
            num_examples: what an epoch counts.
            checked: whose first batch is held against caches and student before a step is taken.
            valid_feed: of the held-out loss.
            companion: is saved with every checkpoint.
        """
        total = num_steps(self.settings, num_examples=num_examples)
        self.keeper.companion = companion
        done = first = self.keeper.resume()
        path = self.output_dir / METRICS_NAME
        rows = [row for row in read_metrics(path) if row["step"] <= first]
        clock = Clock.after(rows)
        if checked is not None:
            self._require_sound_start(checked, first)
        with ExitStack() as stack:
            writer: RowWriter | None = None
            if self.world.is_main:
                lines = stack.enter_context(MetricsWriter(path, keep_below_step=first + 1))
                writer = stack.enter_context(monitored(lines, self.settings.monitor, output_dir=self.output_dir))
            tracker = stack.enter_context(tracked("training", total))
            tracker.advance(first)
            batches = stack.enter_context(prefetched(source.read_ahead, range(first, total)))
            while done < total and not self.keeper.is_over:
                row = self._one_step(done, total, batches, clock=clock, source=source)
                done += 1
                self._log(row, is_last=done == total, writer=writer, tracker=tracker)
                self._after_step(done, total, valid_feed, clock=clock, writer=writer)
        ending = self.keeper.finish(last_step=done, num_steps=total)
        self.engine.destroy()
        return report_of(self.output_dir, ending)

    def _require_sound_start(self, feed: Feed, first: int) -> None:
        """Holds caches against each other and against the student, before a step is taken on them."""
        require_aligned(feed, step=first, head=self.step.teacher_head)
        if first == 0:
            require_reference_start(self.step, feed.step(0), precision=self.precision)

    def _one_step(
        self,
        number: int,
        total: int,
        batches: Prefetched[int, GlobalBatch | None],
        *,
        clock: Clock,
        source: BatchSource,
    ) -> dict[str, float]:
        """Step `number` + 1; its row of metrics."""
        set_seed(fold_seed(self.seed, number, self.world.rank))
        lr = lr_at(number, settings=self.settings, total_steps=total)
        waited_s = batches.waited_s
        batch = next(batches)
        if batch is None:
            batch = source.batch(number)
        try:
            metrics = self.step.train(batch, lr=lr, number=number + 1)
        except UnsoundStepError as error:
            raise write_failed_step(
                error, self.step, batch, lr=lr, output_dir=self.output_dir, tokenizer=self.tokenizer
            ) from error
        self.keeper.after_update(number + 1)
        metrics = source.figures(metrics, step=number)
        step_s = clock.tick(batch.counts.num_tokens)
        return {
            "step": number + 1,
            **metrics,
            "lr": lr,
            "num_tokens": batch.counts.num_tokens,
            "total_tokens": clock.num_tokens,
            "tokens_per_s": batch.counts.num_tokens / step_s,
            "feed_wait_s": batches.waited_s - waited_s,
            "elapsed_s": clock.elapsed_s,
        }

    def _log(self, row: dict[str, float], *, is_last: bool, writer: RowWriter | None, tracker: Tracker) -> None:
        cadences = (self.settings.log_every_steps, self.settings.save_every_steps, self.settings.evaluate_every_steps)
        if writer is not None and (is_last or any(every and row["step"] % every == 0 for every in cadences)):
            writer.write(row)
        tracker.advance(figures={"loss": row["loss"], "tokens/s": row["tokens_per_s"]})

    def _after_step(
        self, done: int, total: int, valid_feed: Feed | None, *, clock: Clock, writer: RowWriter | None
    ) -> None:
        """Held-out loss and checkpoint, where they are due; both are always due at the end."""
        every = self.settings.evaluate_every_steps
        is_best = False
        if (
            valid_feed is not None
            and valid_feed.examples
            and (done == total or (every is not None and done % every == 0))
        ):
            with self.keeper.in_place():
                held_out = self.step.evaluate(valid_feed)
            self.keeper.take(step=done, valid_loss=held_out["valid_loss"])
            is_best = self.keeper.is_new_best(done)
            clock.tick(0)
            if writer is not None:
                writer.write({"step": done, **held_out, "elapsed_s": clock.elapsed_s})
        is_last = done == total or self.keeper.is_over
        if is_last or is_best or done % self.settings.save_every_steps == 0:
            self.keeper.save(done)
            clock.tick(0)


def prepared_module(student: LoadedModel, settings: TrainSettings) -> PackedStudent:
    """The student as the engine takes it: in training mode and, for float32, in float32 (packed weights apart)."""
    if settings.gradient_checkpointing:
        student.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    module = PackedStudent(student.model, longest=settings.max_length_tokens)
    if settings.dtype == "float32":
        for parameter in module.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.float()
    return module.train()


def pad_id_of(student: LoadedModel) -> int:
    """What stands where rows are padded."""
    tokenizer = student.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
