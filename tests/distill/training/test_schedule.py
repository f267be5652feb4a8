import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.training.schedule import lr_at, num_steps
from tests.distill.training.examples import settings


def test_warm_up_climbs_in_equal_parts_and_the_cosine_falls_from_the_peak():
    """20 steps, a tenth of them warm-up: 2 steps at 1/3 and 2/3, the peak at step 2, half of it half way at step 11."""
    chosen = settings(learning_rate=0.3, warmup_ratio=0.1)
    rates = [lr_at(step, settings=chosen, total_steps=20) for step in range(20)]
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[11] == pytest.approx(0.15)
    assert 0 < rates[19] < 0.01


def test_a_line_loses_the_same_at_each_step():
    """No warm-up, 4 steps from 1 toward 0: 1, 3/4, 1/2, 1/4."""
    chosen = settings(learning_rate=1.0, warmup_ratio=0.0, schedule="linear")
    assert [lr_at(s, settings=chosen, total_steps=4) for s in range(4)] == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_a_constant_rate_stays():
    chosen = settings(learning_rate=0.5, warmup_ratio=0.0, schedule="constant")
    assert {lr_at(step, settings=chosen, total_steps=9) for step in range(9)} == {0.5}


def test_the_floor_is_a_share_of_the_peak():
    """cos(pi) would be one step past the end; at half way the rate is the mean of peak and floor: (1 + 0.2) / 2."""
    chosen = settings(learning_rate=1.0, warmup_ratio=0.0, min_lr_ratio=0.2)
    assert lr_at(5, settings=chosen, total_steps=10) == pytest.approx(0.6)


@given(
    total=st.integers(1, 200),
    warmup=st.floats(0, 0.99),
    schedule=st.sampled_from(["cosine", "linear", "constant"]),
    floor=st.floats(0, 1),
)
def test_every_rate_is_positive_and_at_most_the_peak(total: int, warmup: float, schedule: str, floor: float):
    chosen = settings(learning_rate=1e-3, warmup_ratio=warmup, schedule=schedule, min_lr_ratio=floor)
    rates = [lr_at(step, settings=chosen, total_steps=total) for step in range(total)]
    assert all(0 < rate <= 1e-3 * (1 + 1e-9) for rate in rates)
    assert math.isclose(max(rates), 1e-3)


def test_epochs_become_steps():
    """20 examples in batches of 8 fill 2 steps an epoch; 2.5 epochs are 5 steps."""
    assert num_steps(settings(max_steps=None, num_epochs=2.5), num_examples=20) == 5
    assert num_steps(settings(max_steps=None, num_epochs=0.01), num_examples=20) == 1
    assert num_steps(settings(max_steps=7), num_examples=20) == 7
