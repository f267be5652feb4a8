"""Trains the student under DeepSpeed: steps, cadence of logs, checkpoints and held-out losses, the final model."""

import logging
from collections.abc import Sequence
from pathlib import Path

from distill.data import TokenizedPair
from distill.errors import RecipeError
from distill.models import LoadedModel, output_head
from distill.models.world import process_group
from distill.objectives.table import OBJECTIVES
from distill.teacher_cache import TeacherCache
from distill.training.cached_scores import cached_scores
from distill.training.ema import require_whole_average
from distill.training.engine import memory_plan, require_dtype_of_device
from distill.training.feed import Examples, Feed
from distill.training.held_out import held_out_parts
from distill.training.identity import training_fingerprint
from distill.training.live_teacher import LiveTeacher, held_out_scores
from distill.training.monitors import require_monitors
from distill.training.report import TrainReport, finished_report
from distill.training.rollout import Rollout, draws_answers, require_whole_weights
from distill.training.settings import TrainSettings
from distill.training.trainable import require_trainable
from distill.training.training_run import BatchSource, FeedSource, TrainingRun, pad_id_of

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
        run = TrainingRun(
            student, settings, world=world, output_dir=output_dir, seed=seed, identity=identity, head=teacher_head
        )
        scores[1] = held_out_scores(scores[1], validation, live=live)
        feeds = [
            Feed(part, settings, pad_id=pad_id_of(student), seed=seed, world=world, form=run.form, scores=part_scores)
            for part, part_scores in zip((examples, validation), scores, strict=True)
        ]
        source: BatchSource = FeedSource(feeds[0]) if live is None else Rollout(student, live, feeds[0], settings)
        return run.to_the_end(source, num_examples=len(examples), checked=feeds[0], valid_feed=feeds[1])


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
