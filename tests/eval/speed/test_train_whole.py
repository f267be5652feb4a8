from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from eval.speed.train_jobs import JobResult
from eval.speed.train_whole import described, job_work, rerun_row, results_in_turn, steps_of
from eval.speed.train_work import WORKS


def job(folder: Path, lr: float) -> JobResult:
    marks = folder / "marks"
    stands = marks.exists()
    marks.write_text("done")
    return JobResult(lr, 1.0, 1, 2, 0 if stands else 3, 0 if stands else 70, (0.5,))


def test_steps_are_those_of_whole_epochs():
    """64 pairs, 4 a step: 16 steps an epoch."""
    assert steps_of(WORKS["32k"]) == 32
    assert steps_of(WORKS["32k"], num_epochs=1) == 16
    assert "2 epochs over 64 pairs each (32 steps)" in described(WORKS["32k"])


def test_jobs_have_few_pairs():
    assert job_work(WORKS["32k"]).num_pairs == 8
    assert job_work(replace(WORKS["tiny"], num_pairs=3)).num_pairs == 3


@pytest.mark.slow
def test_both_jobs_share_a_folder_and_differ_in_their_rate():
    row = rerun_row("TRL", lambda folder, lr: partial(job, folder, lr), num_threads=1)
    assert (row.first_frozen_tokens, row.second_frozen_tokens) == (70, 0)
    assert (row.first_s, row.second_s, row.origin) == (1e-4, 5e-5, "peer")


@pytest.mark.slow
def test_every_job_is_done_as_often_as_asked_for(tmp_path: Path):
    results = results_in_turn({"a": partial(job, tmp_path, 1.0)}, num_repeats=2, num_threads=1)
    assert [result.num_frozen_passes for result in results["a"]] == [3, 0]
