"""Trains the student under DeepSpeed: steps, cadence of logs, checkpoints and held-out losses, the final model."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.data import TokenizedPair
from distill.errors import RecipeError
from distill.files import fingerprint
from distill.models import LoadedModel, StudentModule, output_head
from distill.models.world import World, process_group
from distill.objectives.table import OBJECTIVES
from distill.progress import MetricsWriter, Tracker, read_metrics, tracked
from distill.teacher_cache import Prefetched, TeacherCache, prefetched
from distill.training.cached_scores import CachedScores, cached_scores
from distill.training.checkpoint import Checkpoints
from distill.training.engine import clips_outside, memory_plan, start_engine
from distill.training.feed import Examples, Feed, GlobalBatch
from distill.training.final_model import save_final_model
from distill.training.identity import training_fingerprint
from distill.training.report import METRICS_NAME, MODEL_NAME, TrainReport, finished_report, mark_finished, report_of
from distill.training.schedule import lr_at, num_steps
from distill.training.settings import TrainSettings
from distill.training.step import StudentStep

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
        validation: held-out examples of the same kind.

    Raises:
        RecipeError: the settings do not fit the examples, the processes or the caches.
        CacheError: a cache lacks sequences, distributions or the student's vocabulary.
        TrainingError: the loss is not finite, or the newest checkpoint was made under other settings.
    """
    require_examples(examples, settings)
    scores = [
        cached_scores(
            [example for example in part if isinstance(example, TokenizedPair)],
            settings,
            teacher_cache=teacher_cache,
            reference_cache=reference_cache,
            student_vocab_size=len(output_head(student.model).weight),
            tokenizer=student.tokenizer,
        )
        for part in (examples, validation)
    ]
    identity = training_fingerprint(
        student,
        examples,
        settings,
        seed=seed,
        plan=memory_plan(settings),
        caches=(teacher_cache, reference_cache),
        validation=validation,
    )
    finished = finished_report(output_dir, identity)
    if finished is not None:
        log.info("%s is trained already", output_dir)
        return finished
    with process_group() as world:
        feeds = [
            Feed(part, settings, pad_id=_pad_id(student), seed=seed, world=world, scores=part_scores)
            for part, part_scores in zip((examples, validation), scores, strict=True)
        ]
        run = _Run(
            student, settings, world=world, output_dir=output_dir, seed=seed, identity=identity, scores=scores[0]
        )
        return run.to_the_end(feeds[0], feeds[1])


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
        scores: CachedScores,
    ) -> None:
        self.student, self.settings, self.world, self.output_dir = student, settings, world, output_dir
        self.seed, self.identity = seed, identity
        self.engine = start_engine(prepared_module(student, settings), settings, world=world)
        self.step = StudentStep(
            self.engine,
            settings,
            world=world,
            teacher_head=None if scores.distributions is None else scores.distributions.head,
            clips_outside=clips_outside(memory_plan(settings), settings),
        )
        self.checkpoints = Checkpoints(output_dir / "checkpoints", identity, world=world, keep_last=settings.keep_last)

    def to_the_end(self, feed: Feed, valid_feed: Feed) -> TrainReport:
        """All steps that are left, then the model and the report."""
        total = num_steps(self.settings, num_examples=len(feed.examples))
        first = self.checkpoints.load_newest(self.engine)
        path = self.output_dir / METRICS_NAME
        clock = Clock.after([row for row in read_metrics(path) if row["step"] <= first])
        with ExitStack() as stack:
            writer = None
            if self.world.is_main:
                writer = stack.enter_context(MetricsWriter(path, keep_below_step=first + 1))
            tracker = stack.enter_context(tracked("training", total))
            tracker.advance(first)
            batches = stack.enter_context(prefetched(feed.step, range(first, total)))
            for number in range(first, total):
                row = self._one_step(number, total, batches, clock=clock)
                self._log(row, is_last=number + 1 == total, writer=writer, tracker=tracker)
                self._after_step(number + 1, total, valid_feed, clock=clock, writer=writer)
        save_final_model(
            self.engine, self.student, self.output_dir / MODEL_NAME, settings=self.settings, world=self.world
        )
        if self.world.is_main:
            mark_finished(self.output_dir, self.identity)
        self.world.wait()
        self.engine.destroy()
        return report_of(self.output_dir)

    def _one_step(
        self, number: int, total: int, batches: Prefetched[int, GlobalBatch], *, clock: "Clock"
    ) -> dict[str, float]:
        """Step `number` + 1; its row of metrics."""
        set_seed(fold_seed(self.seed, number, self.world.rank))
        lr = lr_at(number, settings=self.settings, total_steps=total)
        waited_s = batches.waited_s
        batch = next(batches)
        metrics = self.step.train(batch, lr=lr, number=number + 1)
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

    def _log(self, row: dict[str, float], *, is_last: bool, writer: MetricsWriter | None, tracker: Tracker) -> None:
        is_saved = row["step"] % self.settings.save_every_steps == 0
        if writer is not None and (is_last or is_saved or row["step"] % self.settings.log_every_steps == 0):
            writer.write(row)
        tracker.advance(figures={"loss": row["loss"], "tokens/s": row["tokens_per_s"]})

    def _after_step(
        self, done: int, total: int, valid_feed: Feed, *, clock: "Clock", writer: MetricsWriter | None
    ) -> None:
        """Held-out loss and checkpoint, where they are due; both are always due at the end."""
        every = self.settings.evaluate_every_steps
        if valid_feed.examples and (done == total or (every is not None and done % every == 0)):
            held_out = self.step.evaluate(valid_feed)
            clock.tick(0)
            if writer is not None:
                writer.write({"step": done, **held_out, "elapsed_s": clock.elapsed_s})
        if done == total or done % self.settings.save_every_steps == 0:
            self.checkpoints.save(self.engine, step=done)
            clock.tick(0)


@dataclass
class Clock:
    """Time and tokens since the first step, over all interruptions."""

    elapsed_s: float
    num_tokens: int
    last: float

    @staticmethod
    def after(rows: Sequence[dict[str, float]]) -> "Clock":
        """A clock that goes on where these rows of metrics ended."""
        elapsed_s = max((row["elapsed_s"] for row in rows), default=0.0)
        num_tokens = max((int(row.get("total_tokens", 0)) for row in rows), default=0)
        return Clock(elapsed_s, num_tokens, time.perf_counter())

    def tick(self, num_tokens: int) -> float:
        """Adds tokens, and the time since the last tick, which it returns."""
        now = time.perf_counter()
        passed, self.last = now - self.last, now
        self.elapsed_s += passed
        self.num_tokens += num_tokens
        return passed


def fold_seed(*parts: int) -> int:
    """One 60-bit seed out of several numbers."""
    return int(fingerprint(list(parts))[:15], 16)


def set_seed(seed: int) -> None:
    """Seeds the CPU, and the GPUs where there are some.

    `torch.manual_seed` also queues the seed, with a traceback, for every accelerator this machine does not have.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def prepared_module(student: LoadedModel, settings: TrainSettings) -> StudentModule:
    """The student as the engine takes it: in training mode and, for float32, in float32 (packed weights apart)."""
    if settings.gradient_checkpointing:
        student.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    module = StudentModule(student.model)
    if settings.dtype == "float32":
        for parameter in module.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.float()
    return module.train()


def _pad_id(student: LoadedModel) -> int:
    tokenizer = student.tokenizer
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)
