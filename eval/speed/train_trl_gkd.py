"""TRL's `GKDTrainer` on the answers of the same pairs, its teacher in memory: step by step and as whole jobs."""

import tempfile
from pathlib import Path
from typing import Any

from eval.speed.processes import StepServer
from eval.speed.teachers import random_teacher
from eval.speed.train_jobs import JobResult, Meter, timed_job
from eval.speed.train_trl import TrlSettings, serve, shared_arguments, trained, with_losses
from eval.speed.train_trl_rows import dataset, gkd_rows, word_tokenizer
from eval.speed.train_work import LEARNING_RATE, STUDENT_SEED, TEACHER_SEED, Work


def take_gkd_steps(work: Work, settings: TrlSettings, num_steps: int, server: StepServer) -> None:
    """Steps of `GKDTrainer` on the pairs' answers (lambda 0), forward KL, with the teacher in memory."""
    with tempfile.TemporaryDirectory(prefix="distill-trl-") as folder:
        student = random_teacher(work.student, seed=STUDENT_SEED).model
        teacher = random_teacher(work.teacher, seed=TEACHER_SEED).model
        rows = gkd_rows(work.in_order(num_steps=num_steps))
        trainer = _gkd_trainer(
            student, teacher, rows, work, settings, folder=Path(folder), lr=LEARNING_RATE, num_steps=num_steps + 1
        )
        serve(trainer, server)


def distil(work: Work, settings: TrlSettings, *, num_students: int, num_steps: int) -> JobResult:
    """Students one after another, each with the teacher run at every step, each to its model folder."""
    teacher = random_teacher(work.teacher, seed=TEACHER_SEED)
    students = [random_teacher(work.student, seed=STUDENT_SEED + 10 * number) for number in range(num_students)]
    with tempfile.TemporaryDirectory(prefix="distill-trl-") as folder, timed_job(Meter.of(teacher)) as job:
        rows = gkd_rows(work.in_order(num_steps=num_steps))
        for number, student in enumerate(students):
            own = Path(folder) / f"student-{number}"
            trainer = _gkd_trainer(
                student.model,
                teacher.model,
                rows,
                work,
                settings,
                folder=own,
                lr=LEARNING_RATE,
                num_steps=num_steps,
            )
            job.final_losses.append(trained(trainer, own))
    return job.result()


def run_gkd_again(work: Work, settings: TrlSettings, folder: Path, *, lr: float, num_steps: int) -> JobResult:
    """A GKD job; nothing of the teacher's work is kept."""
    student = random_teacher(work.student, seed=STUDENT_SEED)
    teacher = random_teacher(work.teacher, seed=TEACHER_SEED)
    with timed_job(Meter.of(teacher)) as job:
        rows = gkd_rows(work.in_order(num_steps=num_steps))
        trainer = _gkd_trainer(
            student.model, teacher.model, rows, work, settings, folder=folder / "output", lr=lr, num_steps=num_steps
        )
        job.final_losses.append(trained(trainer, folder / f"student-{lr:g}"))
    return job.result()


def _gkd_trainer(
    student: Any,
    teacher: Any,
    rows: Any,
    work: Work,
    settings: TrlSettings,
    *,
    folder: Path,
    lr: float,
    num_steps: int,
) -> Any:
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    arguments = GKDConfig(
        **shared_arguments(folder, settings, lr=lr, num_steps=num_steps),
        lmbda=0.0,
        beta=0.0,
        temperature=1.0,
        per_device_train_batch_size=2 * work.batch_pairs,
        max_length=1024,
    )
    return with_losses(GKDTrainer)(
        model=student,
        teacher_model=teacher,
        args=arguments,
        train_dataset=dataset(rows),
        processing_class=word_tokenizer(work.student.vocab_size),
    )
