"""Training on the clock against TRL: steps, whole jobs, and jobs at another learning rate.

    python -m eval.speed.train [--work 32k|152k|tiny] [--part steps|jobs|reruns ...] [--json FILE]

Models, pairs and batches are the same, and so are the losses, to 1e-5 before any update, or nothing is measured.
Every trainer has a process of its own and only one of them works at a time. Prints one JSON line.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from distill.files import write_json
from eval.published import command_of, published_benchmark
from eval.speed import train_rounds, train_trl, train_trl_dpo, train_trl_gkd, train_whole
from eval.speed.clock import spread
from eval.speed.train_figures import JobRow, RerunRow, TrainSpeed
from eval.speed.train_rounds import GROUPS, Clocking, Rounds
from eval.speed.train_trl import TrlSettings
from eval.speed.train_work import WORKS, Work

PARTS = ("steps", "jobs", "reruns")
VERSIONS = ("torch", "transformers", "deepspeed")


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m eval.speed.train", description=__doc__.splitlines()[0])
    parser.add_argument("--work", choices=WORKS, default="32k", help="shapes and pairs")
    parser.add_argument("--part", action="append", choices=PARTS, help="measure this part only; may be repeated")
    parser.add_argument("--group", action="append", choices=GROUPS, help="of steps, this group only; may be repeated")
    parser.add_argument("--pairs", type=int, help="how many pairs; the work's own number otherwise")
    parser.add_argument("--steps", type=int, default=4, help="training steps of one turn")
    parser.add_argument("--repeats", type=int, default=5, help="turns of every trainer")
    parser.add_argument("--job-repeats", type=int, default=3, help="how often every whole job is done")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of every process")
    parser.add_argument("--fixed", action="store_true", help="take TRL as it comes in place of its fastest settings")
    parser.add_argument("--json", type=Path, help="write the figures with machine, versions and date")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.perf_counter()
    torch.set_num_threads(options.threads)
    work = WORKS[options.work]
    if options.pairs is not None:
        work = replace(work, num_pairs=options.pairs)
    figures = measure(
        work,
        parts=options.part or PARTS,
        groups=options.group or GROUPS,
        clocking=Clocking(options.steps, options.repeats, options.threads),
        num_job_repeats=options.job_repeats,
        is_fixed=options.fixed,
    )
    print(figures.model_dump_json())
    if options.json is not None:
        chosen: list[tuple[str, object]] = [("work", options.work)]
        chosen += [(name, value) for name in ("part", "group") for value in getattr(options, name) or ()]
        chosen += [("pairs", work.num_pairs), ("steps", options.steps), ("repeats", options.repeats)]
        chosen += [("job-repeats", options.job_repeats), ("threads", options.threads)]
        command = command_of("eval.speed.train", chosen) + (" --fixed" if options.fixed else "")
        elapsed_s = time.perf_counter() - started
        versions = (*VERSIONS, "trl") if train_trl.is_installed() else VERSIONS
        result = published_benchmark(figures, command=command, elapsed_s=elapsed_s, packages=versions)
        write_json(options.json, result.model_dump(mode="json"))


def measure(
    work: Work,
    *,
    parts: Sequence[str],
    groups: Sequence[str],
    clocking: Clocking,
    num_job_repeats: int = 1,
    is_fixed: bool = False,
) -> TrainSpeed:
    """The parts asked for; the others stay empty. Without TRL, ours alone, which a note says.

    Raises:
        DistillError: two trainers do not compute the same loss.
    """
    has_peer, notes = train_trl.is_installed(), []
    if not has_peer:
        notes.append("TRL is not installed here (`pip install trl`), so that there is nothing to compare with")
    as_it_comes = TrlSettings() if has_peer else None
    threads = clocking.num_threads
    rounds: list[Rounds] = []
    if "steps" in parts:
        found, told = _steps(work, groups, clocking, has_peer=has_peer, is_fixed=is_fixed)
        rounds, notes = found, [*notes, *told]
    job_work = train_whole.job_work(work)
    jobs: list[JobRow] = []
    if "jobs" in parts:
        jobs = train_whole.job_rows(job_work, num_repeats=num_job_repeats, num_threads=threads, settings=as_it_comes)
    reruns: list[RerunRow] = []
    if "reruns" in parts:
        reruns = train_whole.rerun_rows(job_work, num_threads=threads, settings=as_it_comes)
    matmul = [speed for found in rounds for speed in found.matmul_flops_per_s]
    differences = [found.loss_difference for found in rounds if found.loss_difference is not None]
    return TrainSpeed(
        work=work.described(),
        steps_a_turn=clocking.num_steps,
        largest_loss_difference=max(differences, default=None),
        matmul_flops_per_s=spread(matmul) if matmul else None,
        steps=tuple(row for found in rounds for row in found.rows),
        jobs_described=train_whole.described(job_work),
        jobs=tuple(jobs),
        reruns=tuple(reruns),
        notes=tuple(notes),
    )


def _steps(
    work: Work, groups: Sequence[str], clocking: Clocking, *, has_peer: bool, is_fixed: bool
) -> tuple[list[Rounds], list[str]]:
    rounds, notes = [], []
    take = {
        GROUPS[0]: (train_rounds.preference_rounds, train_trl_dpo.take_dpo_steps, train_trl.DPO_CHOICES),
        GROUPS[1]: (train_rounds.distillation_rounds, train_trl_gkd.take_gkd_steps, train_trl.GKD_CHOICES),
    }
    for group in groups:
        settings = None
        measure_group, take_steps, choices = take[group]
        if has_peer:
            settings = TrlSettings()
            if not is_fixed:
                settings = train_rounds.fastest_settings(work, take_steps, choices, num_threads=clocking.num_threads)
            notes.append(f"TRL ran with {settings.described()} ({group})")
        with tempfile.TemporaryDirectory(prefix="distill-steps-") as folder:
            rounds.append(measure_group(work, Path(folder), clocking, settings))
    return rounds, notes


if __name__ == "__main__":
    main()
