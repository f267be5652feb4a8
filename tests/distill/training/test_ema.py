from pathlib import Path

import pytest
import torch
from torch import nn

from distill.errors import RecipeError
from distill.training.ema import MovingAverage, require_whole_average
from tests.distill.training.examples import settings


def module(value: float, *, dtype: torch.dtype = torch.float32) -> nn.Linear:
    linear = nn.Linear(2, 1, dtype=dtype)
    nn.init.constant_(linear.weight, value)
    linear.bias.requires_grad_(False)
    return linear


def filled(linear: nn.Linear, value: float) -> None:
    with torch.no_grad():
        linear.weight.fill_(value)


def test_an_average_known_by_hand():
    """From 1; step 1 has d = min(0.5, 2/11) = 2/11: 2/11 + 2 x 9/11 = 20/11. At step 90, d = 1/2: (20/11 + 4) / 2."""
    linear = module(1.0)
    average = MovingAverage(linear, 0.5)
    filled(linear, 2.0)
    average.update(step=1)
    torch.testing.assert_close(average.averages["weight"], torch.full((1, 2), 20 / 11))
    filled(linear, 4.0)
    average.update(step=90)
    torch.testing.assert_close(average.averages["weight"], torch.full((1, 2), (20 / 11 + 4) / 2))


def test_only_what_is_trained_is_averaged():
    assert set(MovingAverage(module(1.0), 0.9).averages) == {"weight"}


def test_weights_in_bfloat16_are_averaged_in_float32_and_come_back_to_the_bit():
    """1 + 2^-9 is no bfloat16; the average holds it, and the block rounds it."""
    linear = module(1.0, dtype=torch.bfloat16)
    average = MovingAverage(linear, 0.9)
    average.averages["weight"].fill_(1 + 2**-9)
    filled(linear, 3.0)
    with average.in_place():
        assert linear.weight.tolist() == [[1.0, 1.0]]
    assert linear.weight.tolist() == [[3.0, 3.0]]
    assert average.averages["weight"].tolist() == [[1 + 2**-9] * 2]


def test_weights_come_back_when_the_block_fails():
    linear = module(1.0)
    average = MovingAverage(linear, 0.9)
    filled(linear, 2.0)
    with pytest.raises(KeyError), average.in_place():
        raise KeyError
    assert linear.weight.tolist() == [[2.0, 2.0]]


def test_what_was_saved_is_loaded(tmp_path: Path):
    average = MovingAverage(module(0.1), 0.9)
    average.save(tmp_path)
    other = MovingAverage(module(0.7), 0.9)
    other.load(tmp_path)
    assert torch.equal(other.averages["weight"], average.averages["weight"])


def test_weights_cut_over_the_ranks_are_refused():
    chosen = settings(ema_decay=0.9)
    with pytest.raises(RecipeError, match=r"ema_decay is 0\.9, and .* is ZeRO-3"):
        require_whole_average(chosen, {"zero_optimization": {"stage": 3}})
    require_whole_average(chosen, {"zero_optimization": {"stage": 2}})
    require_whole_average(settings(), {"zero_optimization": {"stage": 3}})
