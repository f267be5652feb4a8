"""Running means against sums by hand."""

import math

import pytest
import torch

from distill.training.f_dpg_state import RunningNormalisers, WindowedMean


def test_a_prompts_normaliser_is_the_mean_over_all_its_answers():
    """Prompt 4: (1 + 3) over 2 answers, then 8 over 2: 12 / 4 = 3. Prompt 1: none allowed, Z = 0."""
    normalisers = RunningNormalisers()
    normalisers.add(torch.tensor([4, 1]), torch.tensor([4.0, 0.0]), torch.tensor([2.0, 2.0]))
    normalisers.add(torch.tensor([4]), torch.tensor([8.0]), torch.tensor([2.0]))
    found = normalisers.log_of(torch.tensor([1, 4, 4]))
    expected = torch.tensor([-math.inf, math.log(3), math.log(3)], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


def test_what_was_known_before_counts_like_any_answer():
    """(2 of 1 answer before) and 4 of 2: 6 / 3."""
    normalisers = RunningNormalisers({7: (2.0, 1.0)})
    normalisers.add(torch.tensor([7]), torch.tensor([4.0]), torch.tensor([2.0]))
    assert float(normalisers.log_of(torch.tensor([7]))) == pytest.approx(math.log(2))


def test_the_window_keeps_as_few_steps_as_reach_it():
    """Window 4, steps of two answers: the first leaves with the third."""
    window = WindowedMean(4)
    assert window.mean == 0.0
    for total, expected in ((2.0, 1.0), (6.0, 2.0), (10.0, 4.0)):
        window.add(total, 2.0)
        assert window.mean == pytest.approx(expected)


def test_a_step_larger_than_the_window_stays_whole():
    window = WindowedMean(4)
    window.add(1.0, 1.0)
    window.add(30.0, 10.0)
    assert window.mean == pytest.approx(3.0)
