import math

import numpy as np
import pytest
from scipy.optimize import minimize

from distill.errors import DataError
from eval.logit import fit_logit


def test_an_intercept_is_the_log_odds():
    """3 of 4, 1 of 4 and 2.5 of 5 successes: ln 3, -ln 3, 0."""
    fitted = fit_logit(
        np.ones((1, 1)), np.array([[3.0], [1.0], [2.5]]), np.array([[4.0], [4.0], [5.0]]), ridge=np.zeros(1)
    )
    np.testing.assert_allclose(fitted[:, 0], [math.log(3), -math.log(3), 0.0], atol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_agrees_with_a_general_optimiser(ridge):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 3))
    trials = rng.integers(0, 4, size=(5, 40)).astype(float)
    successes = trials * rng.uniform(0.1, 0.9, size=(5, 40))
    fitted = fit_logit(features, successes, trials, ridge=np.full(3, ridge))

    def loss(b, s, n):
        logits = features @ b
        return (n * np.logaddexp(0, logits) - s * logits).sum() + 0.5 * ridge * (b**2).sum()

    for row in range(5):
        found = minimize(loss, np.zeros(3), args=(successes[row], trials[row]), tol=1e-12)
        np.testing.assert_allclose(fitted[row], found.x, atol=1e-5)


def test_a_far_start_does_not_run_away():
    """One success in a million: the intercept is ln(1 / 999,999), though Newton's first step from 0 is too short."""
    fitted = fit_logit(np.ones((1, 1)), np.array([[1.0]]), np.array([[1e6]]), ridge=np.zeros(1))
    assert fitted[0, 0] == pytest.approx(-math.log(999_999), abs=1e-4)


def test_a_separating_feature_is_refused_unless_held_back():
    features, successes, trials = np.array([[1.0], [-1.0]]), np.array([[1.0, 0.0]]), np.ones((1, 2))
    with pytest.raises(DataError, match="no finite maximum"):
        fit_logit(features, successes, trials, ridge=np.zeros(1))
    assert fit_logit(features, successes, trials, ridge=np.array([0.01]))[0, 0] > 1
