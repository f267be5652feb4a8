"""This project's trainer as the benchmarks run it: step by step, and as whole jobs from the teacher on."""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from distill.data import TokenizedPair
from distill.models import LoadedModel, output_head
from distill.models.world import process_group
from distill.objectives import DadpoSettings, DpoSettings, KdSettings
from distill.objectives.table import ObjectiveSettings
from distill.teacher_cache import CacheSettings, CodecName, TeacherCache, prefetched, score_sequences
from distill.training import TrainSettings, memory_plan, train
from distill.training.cached_scores import cached_scores
from distill.training.engine import clips_outside, start_engine
from distill.training.feed import Feed
from distill.training.step import StudentStep
from distill.training.training_run import prepared_module
from eval.speed.processes import StepLoop, StepServer
from eval.speed.teachers import random_teacher
from eval.speed.train_jobs import JobResult, Meter, timed_job
from eval.speed.train_work import (
    BETA,
    LEARNING_RATE,
    PAD_ID,
    REFERENCE_SEED,
    STUDENT_SEED,
    TEACHER_SEED,
    Work,
    sequences,
)

MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class Ours:
    """One objective, and the tier of the teacher's cache that it reads."""

    name: str
    objective: ObjectiveSettings
    codec: CodecName

    def loop(self, work: Work, caches: Path) -> StepLoop:
        """Steps of this trainer over caches that stand in `caches`."""
        return partial(take_steps, self, work, caches)

    def opened(self, caches: Path) -> tuple[TeacherCache | None, TeacherCache | None]:
        """The caches of teacher and reference that the objective reads.

        With the reference's own scores for the teacher's, daDPO's loss is dDPO's at the sum of its betas, whatever
        share each has: so that its loss can be compared, too.
        """
        if self.codec != "scores":
            return TeacherCache.open(caches / self.codec), None
        reference = TeacherCache.open(caches / "reference")
        return reference, reference


DADPO = Ours("daDPO", DadpoSettings(beta_reference=BETA / 2, beta_teacher=BETA / 2), "scores")
DDPO = Ours("dDPO", DpoSettings(beta=BETA), "scores")
KD_EXACT = Ours("kd from `exact`", KdSettings(tier="exact"), "exact")
KD_TOP_K = Ours("kd from `top-k`", KdSettings(tier="top-k"), "top-k")


def write_caches(work: Work, folder: Path, *, codecs: tuple[CodecName, ...], has_reference: bool) -> None:
    """The caches of all step benchmarks, each tier in a folder of its own."""
    kinds: list[tuple[str, CodecName]] = [(codec, codec) for codec in codecs]
    if has_reference:
        kinds.append(("reference", "scores"))
    for name, codec in kinds:
        shape, seed = (work.student, REFERENCE_SEED) if name == "reference" else (work.teacher, TEACHER_SEED)
        score(random_teacher(shape, seed=seed), work, folder / name, codec=codec)


def score(loaded: LoadedModel, work: Work, folder: Path, *, codec: CodecName) -> TeacherCache:
    """A model's cache over the pairs; one that stands is kept."""
    settings = CacheSettings(codec=codec, max_length_tokens=work.longest)
    return score_sequences(
        loaded, sequences(work.pairs()), settings=settings, output_dir=folder, data_fingerprint="benchmark"
    )


def train_settings(work: Work, objective: ObjectiveSettings, *, lr: float, num_steps: int) -> TrainSettings:
    """A constant rate, no decay, gradients clipped at 1: what the peers are given, too."""
    return TrainSettings(
        objective=objective,
        learning_rate=lr,
        max_steps=num_steps,
        global_batch_size=work.batch_pairs,
        warmup_ratio=0.0,
        schedule="constant",
        max_length_tokens=work.longest,
        save_every_steps=MAX_STEPS,
        checks_start=False,
    )


def take_steps(trainer: Ours, work: Work, caches: Path, server: StepServer) -> None:
    """The trainer's own feed, engine and step, without its log and its checkpoints."""
    student = random_teacher(work.student, seed=STUDENT_SEED)
    settings = train_settings(work, trainer.objective, lr=LEARNING_RATE, num_steps=MAX_STEPS)
    pairs = work.pairs()
    teacher, reference = trainer.opened(caches)
    scores = cached_scores(
        pairs,
        settings,
        teacher_cache=teacher,
        reference_cache=reference,
        student_vocab_size=len(output_head(student.model).weight),
    )
    with process_group() as world:
        module = prepared_module(student, settings)
        engine = start_engine(module, settings)
        step = StudentStep(
            engine,
            settings,
            world=world,
            teacher_head=scores.head,
            clips_outside=clips_outside(memory_plan(settings), settings),
        )
        feed = Feed(pairs, settings, pad_id=PAD_ID, seed=work.seed, world=world, form=module.form, scores=scores)
        goes_on, number = server.built(engine.optimizer), 0
        with prefetched(feed.step, range(MAX_STEPS)) as batches:
            while goes_on:
                number += 1
                goes_on = server.stepped(step.train(next(batches), lr=LEARNING_RATE, number=number)["loss"])


def distil(trainer: Ours, work: Work, *, num_students: int, num_steps: int) -> JobResult:
    """One capture, then students one after another, each to its model folder."""
    teacher = random_teacher(work.teacher, seed=TEACHER_SEED)
    students = [random_teacher(work.student, seed=STUDENT_SEED + 10 * number) for number in range(num_students)]
    with tempfile.TemporaryDirectory(prefix="distill-job-") as folder, timed_job(Meter.of(teacher)) as job:
        cache = score(teacher, work, Path(folder) / "cache", codec=trainer.codec)
        for number, student in enumerate(students):
            report = train(
                student,
                work.pairs(),
                settings=train_settings(work, trainer.objective, lr=LEARNING_RATE, num_steps=num_steps),
                output_dir=Path(folder) / f"student-{number}",
                seed=work.seed,
                teacher_cache=cache,
            )
            assert report.final_loss is not None
            job.final_losses.append(report.final_loss)
    return job.result()


def run_again(trainer: Ours, work: Work, folder: Path, *, lr: float, num_steps: int) -> JobResult:
    """A job as its stages do it: caches that stand in `folder` are kept, the student is trained from the start."""
    teacher = random_teacher(work.teacher, seed=TEACHER_SEED)
    reference = random_teacher(work.student, seed=REFERENCE_SEED)
    student = random_teacher(work.student, seed=STUDENT_SEED)
    needs_reference = trainer.codec == "scores"
    with timed_job(Meter.of(teacher), Meter.of(reference)) as job:
        teacher_cache = score(teacher, work, folder / "teacher", codec=trainer.codec)
        reference_cache = score(reference, work, folder / "reference", codec="scores") if needs_reference else None
        report = train(
            student,
            work.pairs(),
            settings=train_settings(work, trainer.objective, lr=lr, num_steps=num_steps),
            output_dir=folder / f"student-{lr:g}",
            seed=work.seed,
            teacher_cache=teacher_cache,
            reference_cache=reference_cache,
        )
        assert report.final_loss is not None
        job.final_losses.append(report.final_loss)
    return job.result()


@torch.inference_mode()
def plain_top_k_loss(work: Work, caches: Path, pairs: list[TokenizedPair]) -> float:
    r"""The loss of `kd` from `top-k` on one batch before the first step, computed the plain way in float64.

    .. math:: \sum_{i \le k} p_i \log\frac{p_i}{q_i} + p_g \log\frac{p_g}{q_g}

    over the listed tokens and the ghost token g of all others, a mean over tokens; one row a sequence, all logits.
    """
    model = random_teacher(work.student, seed=STUDENT_SEED).model
    cache = TeacherCache.open(caches / "top-k")
    losses = []
    for sequence in sequences(pairs):
        row = torch.tensor([[*sequence.prompt_ids, *sequence.completion_ids]])
        logits = model(input_ids=row).logits[0, len(sequence.prompt_ids) - 1 : -1]
        student = logits.double().softmax(-1)
        lists = cache.top_k([sequence.sequence_id])
        q = student.gather(-1, lists.token_ids.long())
        q = torch.cat([q, 1 - q.sum(-1, keepdim=True)], dim=-1)
        p = torch.cat([lists.log_probs.double().exp(), lists.tail_mass.double()[:, None]], dim=-1)
        p = p / p.sum(-1, keepdim=True)
        losses.append((p * (p / q).log()).sum(-1))
    return float(torch.cat(losses).mean())
