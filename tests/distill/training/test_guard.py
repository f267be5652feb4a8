import random
from pathlib import Path

import pytest

from distill.training.guard import MIN_STEPS, PATIENCE_STEPS, LossGuard


def verdicts(losses: list[float], *, factor: float | None = 10.0) -> list[int]:
    """The places of the losses that are called exploded."""
    guard = LossGuard(factor)
    return [place for place, loss in enumerate(losses) if guard.verdict(loss) is not None]


@pytest.mark.parametrize("seed", range(5))
def test_a_preference_loss_that_falls_to_zero_with_outliers_is_in_order(seed: int):
    """From ln 2 toward 0.003, noise as large as the loss, and now and then a pair that costs 40 nats."""
    draw = random.Random(seed)
    losses = [0.003 + 0.69 * 0.97**step + draw.expovariate(20.0) for step in range(400)]
    for place in draw.sample(range(len(losses)), 12):
        losses[place] += draw.uniform(1.0, 40.0)
    assert verdicts(losses) == []


def test_a_loss_that_starts_large_and_falls_is_in_order():
    assert verdicts([200.0 * 0.9**step + 2.0 for step in range(200)]) == []


def test_losses_far_above_the_usual_one_stop_the_run_after_some_in_a_row():
    """Usual is 2: 21 is more than ten times that; one loss in order begins the count anew."""
    high = [21.0] * (PATIENCE_STEPS - 1)
    usual = [2.0] * 30
    assert verdicts([*usual, *high, 2.0, *high]) == []
    assert verdicts([*usual, *high, 21.0]) == [30 + PATIENCE_STEPS - 1]


def test_one_loss_beyond_everything_stops_the_run_at_once():
    """Usual is 0.5, taken as 1: above 10 x 10 and above ten times the largest, 12."""
    assert verdicts([0.5] * 30 + [12.0, 119.0, 121.0]) == []
    assert verdicts([0.5] * 30 + [12.0, 121.0]) == [31]


def test_a_loss_that_climbs_slowly_is_found():
    """One per cent a step from 1 on: the last median would climb with it, the lowest one stays."""
    found = verdicts([1.0] * 50 + [1.01**step for step in range(600)])
    assert found
    assert 9.0 < 1.01 ** (found[0] - 50) < 12.0


def test_the_first_losses_are_never_judged():
    assert verdicts([1e9 * 10.0**step for step in range(MIN_STEPS)]) == []


def test_a_guard_that_is_turned_off_says_nothing():
    assert verdicts([0.5] * 30 + [1e30] * 30, factor=None) == []


def test_a_resumed_guard_judges_as_the_one_that_was_saved(tmp_path: Path):
    """In the middle of a row of high losses, whose count goes on."""
    before = LossGuard(10.0)
    for loss in [0.5] * 130 + [11.0] * (PATIENCE_STEPS - 1):
        assert before.verdict(loss) is None
    before.save(tmp_path)
    after = LossGuard(10.0)
    after.load(tmp_path)
    verdict = after.verdict(11.0)
    assert verdict is not None
    assert verdict == before.verdict(11.0)


def test_a_guard_without_losses_is_saved_too(tmp_path: Path):
    LossGuard(10.0).save(tmp_path)
    after = LossGuard(10.0)
    after.load(tmp_path)
    assert after.verdict(1e30) is None
