"""TRL's `DPOTrainer` on the same pairs as ours, step by step and as a job over a data set on disk."""

import os
import tempfile
from pathlib import Path
from typing import Any

from eval.speed.processes import StepServer
from eval.speed.teachers import random_teacher
from eval.speed.train_jobs import JobResult, Meter, timed_job
from eval.speed.train_trl import TrlSettings, serve, shared_arguments, trained, with_losses
from eval.speed.train_trl_rows import dataset, dpo_rows, on_disk, word_tokenizer
from eval.speed.train_work import BETA, LEARNING_RATE, REFERENCE_SEED, STUDENT_SEED, Work


def take_dpo_steps(work: Work, settings: TrlSettings, num_steps: int, server: StepServer) -> None:
    """Steps of `DPOTrainer` with reference log-probs computed beforehand; the reference then leaves memory.

    Args:
        work: models and pairs.
        settings: what may be set.
        num_steps: how many are asked for at most, so that as many batches are laid out in order.
        server: says when.
    """
    with tempfile.TemporaryDirectory(prefix="distill-trl-") as folder:
        student, reference = (random_teacher(work.student, seed=seed).model for seed in (STUDENT_SEED, REFERENCE_SEED))
        rows = dpo_rows(work.pairs())
        trainer = _dpo_trainer(
            student, reference, rows, work, settings, folder=Path(folder), lr=LEARNING_RATE, num_steps=num_steps + 1
        )
        # Scored once a pair; laid out in order afterwards, for it shuffles otherwise than the feed.
        trainer.train_dataset = trainer.train_dataset.select(work.order(num_steps=num_steps))
        trainer.ref_model = None
        del reference
        serve(trainer, server)


def run_dpo_again(
    work: Work, settings: TrlSettings, folder: Path, *, lr: float, num_steps: int, max_length: int | None
) -> JobResult:
    """A DPO job over a data set on disk; what TRL keeps of its reference log-probs stands in `folder`."""
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
    student = random_teacher(work.student, seed=STUDENT_SEED)
    reference = random_teacher(work.student, seed=REFERENCE_SEED)
    with timed_job(Meter.of(reference)) as job:
        rows = on_disk(dpo_rows(work.in_order(num_steps=num_steps)), folder)
        trainer = _dpo_trainer(
            student.model,
            reference.model,
            rows,
            work,
            settings,
            folder=folder / "output",
            lr=lr,
            num_steps=num_steps,
            max_length=max_length,
        )
        job.final_losses.append(trained(trainer, folder / f"student-{lr:g}"))
    return job.result()


def _dpo_trainer(
    student: Any,
    reference: Any,
    rows: Any,
    work: Work,
    settings: TrlSettings,
    *,
    folder: Path,
    lr: float,
    num_steps: int,
    max_length: int | None = 1024,
) -> Any:
    from trl import DPOConfig, DPOTrainer

    arguments = DPOConfig(
        **shared_arguments(folder, settings, lr=lr, num_steps=num_steps),
        beta=BETA,
        precompute_ref_log_probs=True,
        pad_to_multiple_of=settings.padding_multiple,
        per_device_train_batch_size=work.batch_pairs,
        max_length=max_length,
    )
    return with_losses(DPOTrainer)(
        model=student,
        ref_model=reference,
        args=arguments,
        train_dataset=dataset(rows),
        processing_class=word_tokenizer(work.student.vocab_size),
    )
