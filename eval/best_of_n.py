r"""What best-of-n reaches, for every n at once: of N answers to a prompt, the mean over all ways to draw n of them.

The answer with the k-th lowest score is the best of n drawn without replacement with probability
:math:`\binom{k-1}{n-1} / \binom{N}{n}`: no draw is left to chance, and every answer is used for every n.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from distill.errors import DataError

Floats = NDArray[np.float64]


def best_of_n(scores: Floats, values: Floats, numbers: Sequence[int]) -> Floats:
    """Expected value of the answer with the highest score of n, for each prompt.

    Equal scores are drawn among by lot: their values are averaged.

    Args:
        scores: what selects, [prompt, answer].
        values: what is wanted of the selected, [prompt, answer].
        numbers: the n's, from 1 to the number of answers.

    Returns:
        [number, prompt].

    Raises:
        DataError: the shapes differ, or an n is out of range.

    Source:
        Nakano et al. 2021, WebGPT, arXiv:2112.09332, appendix I: the unbiased estimator.
    """
    if scores.shape != values.shape or scores.ndim != 2:
        raise DataError(f"scores {scores.shape} and values {values.shape}", why="one of each an answer was expected")
    num_answers = scores.shape[1]
    wrong = [n for n in numbers if not 1 <= n <= num_answers]
    if wrong:
        raise DataError(f"n is {wrong[0]}", why=f"each prompt has {num_answers} answers", fix="draw more answers")
    sorted_values = np.stack([_by_score(own, wanted) for own, wanted in zip(scores, values, strict=True)])
    shares = np.array([[math.comb(k, n - 1) / math.comb(num_answers, n) for k in range(num_answers)] for n in numbers])
    found: Floats = shares @ sorted_values.T
    return found


def kl_of_best_of_n(n: int) -> float:
    """How far best-of-n is from the policy that draws, in nats: log n - (n - 1) / n, an upper bound.

    Source:
        Stiennon et al. 2020, arXiv:2009.01325, appendix G.3; as a bound: Beirami et al. 2024, arXiv:2401.01879.
    """
    return math.log(n) - (n - 1) / n


def _by_score(scores: Floats, values: Floats) -> Floats:
    """Values by rising score; those of equal scores are their mean."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(place, weights=values) / counts
    found: Floats = means[np.sort(place)]
    return found
