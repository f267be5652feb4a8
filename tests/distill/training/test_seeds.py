import pytest
import torch

from distill.training.seeds import fold_seed, set_seed


def test_each_step_and_rank_has_its_own_seed():
    assert len({fold_seed(seed, step, rank) for seed in range(3) for step in range(3) for rank in range(3)}) == 27
    assert fold_seed(1, 2, 3) == fold_seed(1, 2, 3)


def test_a_seed_draws_what_torch_would_and_queues_nothing_for_devices_that_are_not_here():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    torch.manual_seed(7)
    expected = torch.rand(3)
    queued = [list(torch.cuda._lazy_seed_tracker.get_calls()), len(torch.xpu._queued_calls)]
    set_seed(7)
    assert torch.equal(torch.rand(3), expected)
    assert [list(torch.cuda._lazy_seed_tracker.get_calls()), len(torch.xpu._queued_calls)] == queued
