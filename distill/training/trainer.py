"""Trains the student under DeepSpeed: steps, cadence of logs, checkpoints and held-out losses, the final model."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from distill.data import TokenizedPair
from distill.errors import RecipeError
from distill.models import LoadedModel, output_head
from distill.models.packed_student import PackedStudent
from distill.models.world import World, process_group
from distill.objectives import OutputHead
from distill.objectives.table import OBJECTIVES
from distill.progress import MetricsWriter, Tracker, read_metrics, tracked
from distill.teacher_cache import Prefetched, TeacherCache, prefetched
from distill.training.agreement import require_one_form
from distill.training.alignment import require_aligned
from distill.training.cached_scores import cached_scores
from distill.training.clock import Clock
from distill.training.ema import require_whole_average
from distill.training.engine import clips_outside, memory_plan, require_dtype_of_device, start_engine
from distill.training.failed_step import write_failed_step
from distill.training.feed import Examples, Feed, GlobalBatch
from distill.training.first_step import coarsest_precision, require_reference_start
from distill.training.held_out import held_out_parts
from distill.training.identity import training_fingerprint
from distill.training.keeper import Keeper
from distill.training.live_teacher import LiveTeacher, held_out_scores
from distill.training.monitors import RowWriter, monitored, require_monitors
from distill.training.report import METRICS_NAME, TrainReport, finished_report, report_of
from distill.training.rollout import Rollout, draws_answers, require_whole_weights
from distill.training.schedule import lr_at, num_steps
from distill.training.seeds import fold_seed, set_seed
from distill.training.settings import TrainSettings
from distill.training.step import StudentStep, UnsoundStepError
from distill.training.trainable import require_trainable

log = logging.getLogger(__name__)


def train(
    student: LoadedModel,
    examples: Examples,
    *,
    settings: TrainSettings,
    output_dir: Path,
    seed: int,
    teacher_cache: TeacherCache | None = None,
    reference_cache: TeacherCache | None = None,
    validation: Examples = (),
    live_teacher: LoadedModel | None = None,
    teacher_pairs: Sequence[TokenizedPair] | None = None,
) -> TrainReport:
    """Trains the student on the examples and writes its weights to `output_dir/model`.

    Continues from the newest checkpoint in `output_dir`; a finished run with the same settings, seed and data is
    returned as it stands. Under torchrun or the deepspeed launcher every process calls this with the same arguments.

    Args:
        student: trained in place; afterwards read it from `output_dir/model`.
        examples: dialogues for the objective `sft`, pairs for the others.
        settings: the recipe's section.
        output_dir: gets metrics.jsonl, checkpoints/, model/ and, at the end, train_report.json.
        seed: of the order of examples and of dropout.
        teacher_cache: the teacher's scores of both completions of every pair.
        reference_cache: the same of the student's frozen start.
        validation: held-out examples of the same kind; none where the settings hold some of the pairs out.
        live_teacher: the teacher of the cache, loaded; reads answers that the student draws, where the objective
            learns from such.
        teacher_pairs: the pairs of `examples` and `validation` as the teacher's tokenizer cuts them, where that is
            another one; found by their ids.

    Raises:
        RecipeError: the settings do not fit the student, the examples, the processes, the caches or the live teacher.
        CacheError: a cache lacks sequences, distributions or the student's vocabulary, or its rows are not those of the
            tokens to be learned.
        TrainingError: the loss is not finite or explodes, the student does not start as its reference, or the newest
            checkpoint was made under other settings.
    """
    require_examples(examples, settings)
    require_trainable(student, settings)
    require_dtype_of_device(settings)
    require_monitors(settings.monitor)
    examples, validation = held_out_parts(examples, validation, settings)
    by_id = None if teacher_pairs is None else {pair.id: pair for pair in teacher_pairs}
    scores = [
        cached_scores(
            own,
            settings,
            teacher_cache=teacher_cache,
            reference_cache=reference_cache,
            student_vocab_size=len(output_head(student.model).weight),
            tokenizer=student.tokenizer,
            teacher_pairs=None if by_id is None else [by_id[pair.id] for pair in own if pair.id in by_id],
            has_live_teacher=live_teacher is not None,
        )
        for own in (pairs_in(examples), pairs_in(validation))
    ]
    require_whole_weights(settings, memory_plan(settings))
    require_whole_average(settings, memory_plan(settings))
    if not draws_answers(settings):
        live_teacher = None
    elif live_teacher is not None and scores[0].distributions is not None:
        scores[0].distributions.require(teacher_fingerprint=live_teacher.fingerprint)
    identity = training_fingerprint(
        student,
        examples,
        settings,
        seed=seed,
        plan=memory_plan(settings),
        caches=(teacher_cache, reference_cache),
        validation=validation,
        live_teacher=None if live_teacher is None else live_teacher.fingerprint,
    )
    finished = finished_report(output_dir, identity)
    if finished is not None:
        log.info("%s is trained already", output_dir)
        return finished
    with process_group() as world:
        live = None
        if live_teacher is not None:
            live = LiveTeacher(live_teacher, max_tokens=settings.max_tokens_per_pass, world=world)
        teacher_head = scores[0].head if live is None else live.head
        run = _Run(
            student, settings, world=world, output_dir=output_dir, seed=seed, identity=identity, head=teacher_head
        )
        scores[1] = held_out_scores(scores[1], validation, live=live)
        feeds = [
            Feed(part, settings, pad_id=_pad_id(student), seed=seed, world=world, form=run.form, scores=part_scores)
            for part, part_scores in zip((examples, validation), scores, strict=True)
        ]
        rollout = None if live is None else Rollout(student, live, feeds[0], settings)
        return run.to_the_end(feeds[0], feeds[1], rollout=rollout)


def pairs_in(examples: Examples) -> list[TokenizedPair]:
    """Those of the examples that are pairs: all or none."""
    return [example for example in examples if isinstance(example, TokenizedPair)]


def require_examples(examples: Examples, settings: TrainSettings) -> None:
    """Refuses examples of another kind than the objective learns from.

    Raises:
        RecipeError: there are none, or the objective wants the other kind.
    """
    if not examples:
        raise RecipeError("there are no examples to train on", fix="look at the counts of dropped rows in the log")
    wanted = OBJECTIVES[settings.objective.name].examples
    kind = "pairs" if isinstance(examples[0], TokenizedPair) else "conversations"
    if kind != wanted:
        raise RecipeError(
            f"objective {settings.objective.name} learns from {wanted}, and the examples are {kind}",
            fix="choose another objective, or the stage that makes such examples",
        )


class _Run:
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

    def to_the_end(self, feed: Feed, valid_feed: Feed, *, rollout: Rollout | None = None) -> TrainReport:
        """All steps that are left, then the model and the report."""
        read_ahead = feed.step if rollout is None else rollout.read_ahead
        total = num_steps(self.settings, num_examples=len(feed.examples))
        done = first = self.keeper.resume()
        path = self.output_dir / METRICS_NAME
        rows = [row for row in read_metrics(path) if row["step"] <= first]
        clock = Clock.after(rows)
        self._require_sound_start(feed, first)
        with ExitStack() as stack:
            writer: RowWriter | None = None
            if self.world.is_main:
                lines = stack.enter_context(MetricsWriter(path, keep_below_step=first + 1))
                writer = stack.enter_context(monitored(lines, self.settings.monitor, output_dir=self.output_dir))
            tracker = stack.enter_context(tracked("training", total))
            tracker.advance(first)
            batches = stack.enter_context(prefetched(read_ahead, range(first, total)))
            while done < total and not self.keeper.is_over:
                row = self._one_step(done, total, batches, clock=clock, rollout=rollout)
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
        rollout: Rollout | None,
    ) -> dict[str, float]:
        """Step `number` + 1; its row of metrics."""
        set_seed(fold_seed(self.seed, number, self.world.rank))
        lr = lr_at(number, settings=self.settings, total_steps=total)
        waited_s = batches.waited_s
        batch = next(batches)
        if batch is None:
            assert rollout is not None, "only on-policy steps have no batch ahead of time"
            batch = rollout.batch(number)
        try:
            metrics = self.step.train(batch, lr=lr, number=number + 1)
        except UnsoundStepError as error:
            raise write_failed_step(
                error, self.step, batch, lr=lr, output_dir=self.output_dir, tokenizer=self.tokenizer
            ) from error
        self.keeper.after_update(number + 1)
        if rollout is not None:
            metrics = rollout.figures(metrics, step=number)
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

    def _after_step(self, done: int, total: int, valid_feed: Feed, *, clock: Clock, writer: RowWriter | None) -> None:
        """Held-out loss and checkpoint, where they are due; both are always due at the end."""
        every = self.settings.evaluate_every_steps
        is_best = False
        if valid_feed.examples and (done == total or (every is not None and done % every == 0)):
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


def _pad_id(student: LoadedModel) -> int:
    tokenizer = student.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
