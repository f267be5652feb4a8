"""Logistic regression by Newton's method for many weightings of the same rows at once, as a bootstrap needs it."""

import numpy as np
from numpy.typing import NDArray

from distill.errors import DataError

Floats = NDArray[np.float64]

MAX_STEPS = 200
TOLERANCE = 1e-10
LARGEST_LOGIT = 20.0
"""Odds of 5e8 to one: without a ridge, a fit beyond them is taken for one that would go on to infinity."""


def fit_logit(features: Floats, successes: Floats, trials: Floats, *, ridge: Floats) -> Floats:
    r"""Coefficients b that maximise, for each weighting on its own,

    .. math:: \sum_r s_r\, x_r \cdot b - n_r \log(1 + e^{x_r \cdot b}) - \tfrac12 \sum_f \lambda_f b_f^2

    Args:
        features: x, [row, feature].
        successes: s, [weighting, row], from 0 to n; fractions are allowed (a tie is half a success).
        trials: n, [weighting, row].
        ridge: lambda of each feature; 0 leaves it free.

    Returns:
        [weighting, feature].

    Raises:
        DataError: no finite maximum: some combination of features separates successes from failures.

    Source:
        McCullagh & Nelder 1989, sec. 4.4; steps are halved until the function grows.
    """
    coefficients = np.zeros((len(trials), features.shape[1]))
    values = _value(coefficients, features, successes, trials, ridge)
    scale = 1.0 + trials.sum(1)
    products = features[:, :, None] * features[:, None, :]
    open_ones = np.arange(len(trials))
    for _ in range(MAX_STEPS):
        here = coefficients[open_ones]
        s, n = successes[open_ones], trials[open_ones]
        probabilities = _sigmoid(here @ features.T)
        gradient = (s - n * probabilities) @ features - ridge * here
        unfinished = np.abs(gradient).max(1) > TOLERANCE * scale[open_ones]
        if not unfinished.any():
            break
        open_ones, here, s, n = open_ones[unfinished], here[unfinished], s[unfinished], n[unfinished]
        curvature = (n * (probabilities * (1 - probabilities))[unfinished]) @ products.reshape(len(features), -1)
        hessian = curvature.reshape(-1, *products.shape[1:]) + np.diag(ridge + 1e-12)
        step = np.linalg.solve(hessian, gradient[unfinished][..., None])[..., 0]
        step *= np.minimum(1.0, 5.0 / np.maximum(np.abs(step).max(1, keepdims=True), 1e-300))
        for _ in range(30):
            grown = _value(here + step, features, s, n, ridge)
            worse = grown < values[open_ones] - 1e-12 * scale[open_ones]
            if not worse.any():
                break
            step[worse] /= 2.0
        coefficients[open_ones] = here + step
        values[open_ones] = grown
        if not ridge.any() and np.abs(here @ features.T).max() > LARGEST_LOGIT:
            break
    if not ridge.any() and np.abs(coefficients @ features.T).max() > LARGEST_LOGIT:
        raise DataError(
            "the logistic model has no finite maximum",
            why="its features tell every success from every failure, in the data or in a resample of them",
            fix="more comparisons, or a prior above 0",
        )
    return coefficients


def _value(coefficients: Floats, features: Floats, successes: Floats, trials: Floats, ridge: Floats) -> Floats:
    logits = coefficients @ features.T
    likelihood = (successes * logits - trials * np.logaddexp(0.0, logits)).sum(1)
    penalised: Floats = likelihood - 0.5 * (ridge * coefficients**2).sum(1)
    return penalised


def _sigmoid(logits: Floats) -> Floats:
    result: Floats = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result
