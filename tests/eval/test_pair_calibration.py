"""Calibration on margins whose chances are known."""

import numpy as np
import pytest
from scipy.special import expit

from distill.errors import DataError
from eval.pair_calibration import expected_calibration_error, fitted_slope, pair_calibration


def known_margins(num: int) -> np.ndarray:
    """Chosen less rejected, where P(the first is chosen) = sigmoid(2 m)."""
    draws = np.random.default_rng(0)
    margins = draws.normal(size=num)
    return np.where(draws.random(num) < expit(2 * margins), margins, -margins)


def test_the_slope_is_found_and_makes_margins_calibrated():
    margins = known_margins(20_000)
    assert fitted_slope(margins) == pytest.approx(2.0, rel=0.05)
    found = pair_calibration(margins, np.arange(20_000) % 2 == 0)
    assert found.error < 0.02
    np.testing.assert_allclose(found.losses, -np.log(found.probabilities))


def test_the_unit_of_rewards_does_not_matter():
    margins, halves = known_margins(400), np.arange(400) % 2 == 0
    np.testing.assert_allclose(
        pair_calibration(margins, halves).losses, pair_calibration(margins * 50, halves).losses, rtol=1e-3
    )


def test_the_error_by_hand():
    """Sure by .9, .9 and .6; right, wrong and right: |1.8 - 1| in one bin and |.6 - 1| in another, over 3."""
    found = expected_calibration_error(np.array([0.9, 0.1, 0.6]))
    assert found == pytest.approx(1.2 / 3)


def test_a_coin_is_calibrated():
    assert expected_calibration_error(np.full(4, 0.5)) == 0.0


def test_one_half_alone_is_refused():
    with pytest.raises(DataError, match="3 pairs all in one half"):
        pair_calibration(np.ones(3), np.ones(3, dtype=bool))
