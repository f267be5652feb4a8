"""Whole jobs in turn, each in a fresh process: from the teacher to trained students, and the same at another rate."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from eval.speed import train_ours, train_trl_dpo, train_trl_gkd
from eval.speed.clock import shares, spread
from eval.speed.processes import alone
from eval.speed.train_figures import JobRow, RerunRow
from eval.speed.train_jobs import JobResult
from eval.speed.train_rounds import TRL_GKD
from eval.speed.train_trl import TrlSettings
from eval.speed.train_work import LEARNING_RATE, Work

NUM_STUDENTS, NUM_EPOCHS = 2, 2
JOB_PAIRS = 8
OTHER_RATE = LEARNING_RATE / 2

Again = Callable[[Path, float], Callable[[], JobResult]]
"""(the folder that both jobs share, the learning rate) -> the job."""


def job_rows(work: Work, *, num_repeats: int, num_threads: int, settings: TrlSettings | None) -> list[JobRow]:
    """One capture and `NUM_STUDENTS` students against as many of TRL's; without `settings`, ours alone."""
    common = {"num_students": NUM_STUDENTS, "num_steps": steps_of(work)}
    jobs: dict[str, Callable[[], JobResult]] = {}
    if settings is not None:
        jobs[TRL_GKD] = partial(train_trl_gkd.distil, work, settings, **common)
    for trainer in (train_ours.KD_TOP_K, train_ours.KD_EXACT):
        jobs[trainer.name] = partial(train_ours.distil, trainer, work, **common)
    results = results_in_turn(jobs, num_repeats=num_repeats, num_threads=num_threads)
    peer = None if settings is None else results[TRL_GKD]
    return [_job_row(name, found, None if name == TRL_GKD else peer) for name, found in results.items()]


def job_work(work: Work) -> Work:
    """The same with few pairs: whole jobs take whole minutes otherwise."""
    return replace(work, num_pairs=min(work.num_pairs, JOB_PAIRS))


def described(work: Work) -> str:
    """The job in words."""
    return (
        f"From the teacher to {NUM_STUDENTS} students' model folders, {NUM_EPOCHS} epochs over {work.num_pairs} pairs "
        f"each ({steps_of(work)} steps), models built beforehand"
    )


def steps_of(work: Work, *, num_epochs: int = NUM_EPOCHS) -> int:
    """Optimizer steps of some epochs."""
    return num_epochs * max(work.num_pairs // work.batch_pairs, 1)


def results_in_turn(
    jobs: Mapping[str, Callable[[], JobResult]], *, num_repeats: int, num_threads: int
) -> dict[str, list[JobResult]]:
    """Every job `num_repeats` times, A B A B."""
    results: dict[str, list[JobResult]] = {name: [] for name in jobs}
    for _ in range(num_repeats):
        for name, job in jobs.items():
            results[name].append(alone(job, JobResult, num_threads=num_threads))
    return results


def rerun_rows(work: Work, *, num_threads: int, settings: TrlSettings | None) -> list[RerunRow]:
    """Each trainer's job of one epoch, then the same at half the learning rate, over one folder of its own."""
    return [rerun_row(name, again, num_threads=num_threads) for name, again in _again(work, settings=settings).items()]


def rerun_row(name: str, again: Again, *, num_threads: int) -> RerunRow:
    """Both jobs of one trainer, each in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="distill-again-") as folder:
        first, second = (
            alone(again(Path(folder), lr), JobResult, num_threads=num_threads) for lr in (LEARNING_RATE, OTHER_RATE)
        )
    return RerunRow(
        name=name,
        origin="peer" if name.startswith("TRL") else "ours",
        first_frozen_tokens=first.num_frozen_tokens,
        second_frozen_tokens=second.num_frozen_tokens,
        first_s=first.elapsed_s,
        second_s=second.elapsed_s,
    )


def _again(work: Work, *, settings: TrlSettings | None) -> dict[str, Again]:
    num_steps = steps_of(work, num_epochs=1)

    def dpo(max_length: int | None) -> Again:
        assert settings is not None
        return lambda folder, lr: partial(
            train_trl_dpo.run_dpo_again, work, settings, folder, lr=lr, num_steps=num_steps, max_length=max_length
        )

    def gkd(folder: Path, lr: float) -> Callable[[], JobResult]:
        assert settings is not None
        return partial(train_trl_gkd.run_gkd_again, work, settings, folder, lr=lr, num_steps=num_steps)

    def ours(trainer: train_ours.Ours) -> Again:
        return lambda folder, lr: partial(train_ours.run_again, trainer, work, folder, lr=lr, num_steps=num_steps)

    peers: dict[str, Again] = {}
    if settings is not None:
        peers = {
            "TRL DPO, reference precomputed, max_length 1024": dpo(1024),
            "TRL DPO, reference precomputed, no max_length": dpo(None),
            TRL_GKD: gkd,
        }
    trainers = (train_ours.DADPO, train_ours.KD_TOP_K, train_ours.KD_EXACT)
    return peers | {trainer.name: ours(trainer) for trainer in trainers}


def _job_row(name: str, results: list[JobResult], peer: list[JobResult] | None) -> JobRow:
    elapsed_s = [result.elapsed_s for result in results]
    return JobRow(
        name=name,
        origin="peer" if name.startswith("TRL") else "ours",
        elapsed_s=spread(elapsed_s),
        cpu_s=spread([result.cpu_s for result in results]),
        speed_ratio=None if peer is None else shares(elapsed_s, [result.elapsed_s for result in peer]),
        teacher_tokens=results[0].num_frozen_tokens,
        raw_bytes=max(result.raw_bytes for result in results),
    )
