r"""Is a margin of rewards as sure as it claims? Bradley-Terry says P(chosen) = sigmoid(margin / temperature).

The temperature is fitted on one half of the pairs and judged on the other, each way round, so that models whose
rewards have other units are compared by how well their margins order and space what is sure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit

from distill.errors import DataError

Floats = NDArray[np.float64]
NUM_BINS = 10
LOG_SLOPES = (-12.0, 12.0)


@dataclass(frozen=True)
class PairCalibration:
    """Of held-out pairs: P(chosen) of each, its loss in nats, and the expected calibration error, from 0 to 1."""

    probabilities: Floats
    losses: Floats
    error: float


def pair_calibration(margins: Floats, halves: NDArray[np.bool_]) -> PairCalibration:
    """Calibrates margins of chosen over rejected across two halves.

    Args:
        margins: reward of the chosen answer less that of the rejected.
        halves: in which half a pair is; both must hold one.

    Raises:
        DataError: a half is empty.
    """
    if not (halves.any() and (~halves).any()):
        raise DataError(f"{len(margins)} pairs all in one half", why="the temperature is fitted on the other half")
    probabilities = np.empty_like(margins)
    for half in (halves, ~halves):
        probabilities[half] = expit(fitted_slope(margins[~half]) * margins[half])
    losses: Floats = -np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    return PairCalibration(probabilities, losses, expected_calibration_error(probabilities))


def fitted_slope(margins: Floats) -> float:
    """The slope a > 0 that makes sigmoid(a margin) likeliest for pairs that were all labelled chosen."""

    def loss(log_slope: float) -> float:
        return float(np.logaddexp(0.0, -np.exp(log_slope) * margins).mean())

    return float(np.exp(minimize_scalar(loss, bounds=LOG_SLOPES, method="bounded").x))


def expected_calibration_error(probabilities: Floats, *, num_bins: int = NUM_BINS) -> float:
    """Mean distance between how sure the favoured answer is and how often it is the chosen one, over equal bins.

    Source:
        Naeini et al. 2015, AAAI; Guo et al. 2017, arXiv:1706.04599, eq. 3.
    """
    sureness, is_right = (
        np.maximum(probabilities, 1 - probabilities),
        (probabilities > 0.5) + 0.5 * (probabilities == 0.5),
    )
    bins = np.minimum(((sureness - 0.5) * 2 * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=sureness - is_right, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(probabilities))
