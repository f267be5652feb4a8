"""Two models on the same questions: the mean difference with its studentised interval, and exact tests of none."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, permutation_test

from distill.errors import DataError
from eval.intervals import cluster_totals, clustered_interval
from eval.scores import PairedDifference, paired_difference

MOST_EXACT_CLUSTERS = 16
"""Up to here all 2^k patterns of signs are counted: 65,536."""


def studentised_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    scale: tuple[float, float] | None = None,
    seed: int,
    num_resamples: int = 10_000,
    level: float = 0.95,
) -> PairedDifference:
    """Mean of first minus second over the same items; interval by `clustered_interval`, p by sign flips of clusters.

    The p-value is exact up to 16 clusters that differ and drawn above, as in `eval.scores.paired_difference`. With k
    clusters no p-value is below 2 / 2^k, so that five questions can never show a difference at 5 %.

    Args:
        first: one value per item.
        second: the values of the same items in the same order.
        clusters: to which cluster each item belongs; none: each is its own.
        scale: lowest and highest value that an item can have; the difference then lies within its width.
        seed: of the resampling and of the signs.
        num_resamples: bootstrap means, and patterns of signs where they are drawn.
        level: of the interval.

    Raises:
        DataError: the lengths differ, or anything that `clustered_interval` refuses.

    Source:
        Fisher 1935, The Design of Experiments, sec. 21; exact counting: scipy.stats.permutation_test.
    """
    drawn = paired_difference(first, second, clusters=clusters, seed=seed, num_resamples=num_resamples, level=level)
    differences = cluster_differences(first, second, clusters=clusters)
    reach = None if scale is None else (scale[0] - scale[1], scale[1] - scale[0])
    interval = clustered_interval(differences, scale=reach, seed=seed, num_resamples=num_resamples, level=level)
    sums, _ = cluster_totals(differences)
    exact = exact_sign_flip_p(sums)
    return PairedDifference(interval, drawn.p_value if exact is None else exact, len(differences))


def exact_sign_flip_p(sums: NDArray[np.float64]) -> float | None:
    """Share of all patterns of signs whose total is at least as far from zero as the one seen.

    Args:
        sums: summed difference of each cluster; zeros have no sign and are left out.

    Returns:
        The two-sided p-value, or None above `MOST_EXACT_CLUSTERS`.
    """
    moved = sums[sums != 0.0]
    if len(moved) > MOST_EXACT_CLUSTERS:
        return None
    if len(moved) < 2:
        return 1.0
    result = permutation_test(
        (moved, np.zeros_like(moved)),
        lambda left, right, axis: (left - right).sum(axis=axis),
        permutation_type="samples",
        n_resamples=2**MOST_EXACT_CLUSTERS,
        vectorized=True,
    )
    return float(result.pvalue)


def sign_test_p(num_wins: int, num_losses: int) -> float:
    """Two-sided p of as many wins among the questions that were not tied, if either side were as likely to win.

    It reads the direction of each difference only: less sharp than sign flips, and safe from single large ones.

    Raises:
        DataError: a number is negative.
    """
    if min(num_wins, num_losses) < 0:
        raise DataError(f"{num_wins} wins and {num_losses} losses", why="numbers of at least 0 were expected")
    if num_wins + num_losses == 0:
        return 1.0
    return float(binomtest(num_wins, num_wins + num_losses, 0.5).pvalue)


def cluster_differences(
    first: Sequence[float], second: Sequence[float], *, clusters: Sequence[Hashable] | None = None
) -> list[list[float]]:
    """First minus second of each item, grouped by cluster in order of appearance; the lengths are equal."""
    names: Sequence[Hashable] = range(len(first)) if clusters is None else clusters
    grouped: dict[Hashable, list[float]] = {}
    for name, left, right in zip(names, first, second, strict=True):
        grouped.setdefault(name, []).append(float(left) - float(right))
    return list(grouped.values())
