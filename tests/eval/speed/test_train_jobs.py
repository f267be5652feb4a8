import pytest
import torch

from eval.speed.teachers import TeacherShape, random_teacher
from eval.speed.train_jobs import Meter, timed_job

SHAPE = TeacherShape(vocab_size=50, hidden_size=8, num_layers=1, num_heads=2, intermediate_size=8)


def test_a_meter_counts_passes_and_positions_whoever_runs_them():
    loaded = random_teacher(SHAPE, seed=0)
    meter = Meter.of(loaded)
    loaded.model(input_ids=torch.tensor([[1, 2, 3]]))
    loaded.model.base_model(torch.tensor([[1, 2], [3, 4]]))
    assert (meter.num_passes, meter.num_tokens) == (2, 7)


def test_a_job_is_its_block():
    with timed_job(Meter(2, 30), Meter(1, 4)) as job:
        job.final_losses.append(0.5)
    result = job.result()
    assert (result.num_frozen_passes, result.num_frozen_tokens, result.final_losses) == (3, 34, (0.5,))
    assert result.elapsed_s > 0
    assert result.raw_bytes > 0


def test_a_job_that_fails_tells_nothing():
    with pytest.raises(ZeroDivisionError), timed_job():
        raise ZeroDivisionError
