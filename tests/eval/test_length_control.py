import math

import numpy as np
import pytest

from distill.errors import DataError
from eval import length_control
from eval.length_control import length_controlled


def test_equal_lengths_leave_the_raw_rate():
    """15 of 20 and the prior: (15 + 0.05) / 20.1."""
    result = length_controlled([1.0] * 15 + [0.0] * 5, [0] * 20, seed=0, num_resamples=100)
    assert result.raw == 0.75
    assert result.win_rate.mean == pytest.approx(15.05 / 20.1)
    assert result.win_rate.low < 0.75 < result.win_rate.high
    assert (result.length_effect, result.warning, result.label) == (pytest.approx(0.0), None, "LC-minimal")


def test_known_answer_of_two_lengths(monkeypatch):
    """Longer by d: 80 of 100; shorter by d: 40 of 100. std = d, so that the rows stand at +-tanh(1).

    Without prior and ridge the model is saturated: a +- b tanh 1 = ln 4 and -ln 1.5:
    a = (ln 4 - ln 1.5) / 2 = ln(8/3) / 2, b = ln 6 / (2 tanh 1); LC = 1 / (1 + sqrt(3/8)) = 0.62020.
    """
    monkeypatch.setattr(length_control, "PRIOR_GAMES", 1e-9)
    monkeypatch.setattr(length_control, "RIDGE", 1e-9)
    outcomes = [1.0] * 80 + [0.0] * 20 + [1.0] * 40 + [0.0] * 60
    result = length_controlled(outcomes, [300] * 100 + [-300] * 100, seed=1, num_resamples=50)
    assert result.win_rate.mean == pytest.approx(0.62020, abs=1e-5)
    assert result.length_effect == pytest.approx(math.log(6) / (2 * math.tanh(1)), abs=1e-6)


def test_a_judge_who_likes_length_is_seen_through():
    """Equally good, mostly longer: the raw rate is far above a half, the controlled one is not."""
    rng = np.random.default_rng(2)
    differences = rng.normal(400, 400, size=600)
    chance = 1 / (1 + np.exp(-3 * np.tanh(differences / differences.std())))
    result = length_controlled((rng.random(600) < chance).astype(float), differences, seed=2, num_resamples=300)
    assert result.raw > 0.7
    assert result.win_rate.low < 0.5 < result.win_rate.high
    assert "more than 10 points apart" in result.warning


def test_intervals_cover_the_planted_rate():
    """60 worlds of 80 questions with two turns each, true rate 0.6 at equal lengths: 95 % less what 60 allow for."""
    rng, num_covering = np.random.default_rng(3), 0
    for world in range(60):
        differences = rng.normal(100, 300, size=(80, 2))
        logits = math.log(1.5) + 0.8 * np.tanh(differences / 300)
        outcomes = (rng.random((80, 2)) < 1 / (1 + np.exp(-logits))).astype(float)
        rate = length_controlled(
            outcomes.ravel(), differences.ravel(), clusters=np.repeat(range(80), 2), seed=world, num_resamples=60
        ).win_rate
        num_covering += rate.low <= 0.6 <= rate.high
    assert num_covering >= 51


def test_changing_sides_mirrors_the_rate():
    rng = np.random.default_rng(4)
    outcomes, differences = rng.choice([0, 0.5, 1], size=40), rng.normal(50, 200, size=40)
    there = length_controlled(outcomes, differences, seed=4, num_resamples=50)
    back = length_controlled(1 - outcomes, -differences, seed=4, num_resamples=50)
    assert there.win_rate.mean == pytest.approx(1 - back.win_rate.mean)
    assert there.win_rate.low == pytest.approx(1 - back.win_rate.high)


def test_one_sided_outcomes_stay_finite():
    """Every longer answer won: nothing is known at equal lengths but that neither side is ahead."""
    result = length_controlled([1.0, 1.0, 0.0, 0.0], [10, 20, -10, -20], seed=5, num_resamples=50)
    assert result.win_rate.mean == pytest.approx(0.5)
    assert math.isfinite(result.length_effect)


@pytest.mark.parametrize(
    ("outcomes", "differences", "message"),
    [
        ([1.0, 0.0], [1.0], "2 outcomes, 1 length differences"),
        ([1.0, 2.0], [1.0, 1.0], "an outcome lies outside 0 to 1"),
        ([1.0, math.nan], [1.0, 1.0], "an outcome lies outside 0 to 1"),
        ([1.0, 0.0], [1.0, math.inf], "a length difference is not finite"),
        ([1.0], [1.0], "1 clusters to resample"),
    ],
)
def test_comparisons_that_cannot_be_fitted_are_refused(outcomes, differences, message):
    with pytest.raises(DataError, match=message):
        length_controlled(outcomes, differences, seed=0)
