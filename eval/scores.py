"""Means with intervals that know which values belong together, paired comparisons, and shares of successes.

Answers to one question are not independent, so every resampling here draws whole clusters (questions or
conversations). Random numbers come from a generator made from the caller's seed: the same call, the same figures.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from distill.errors import DataError

BLOCK_SIZE = 4_000_000
"""Random numbers drawn at a time: 32 MB."""


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """Mean of first minus second with its interval, and the two-sided p-value of no difference."""

    difference: Interval
    p_value: float
    num_clusters: int


def mean_interval(
    values_by_cluster: Sequence[Sequence[float]], *, seed: int, num_resamples: int = 10_000, level: float = 0.95
) -> Interval:
    """The mean over all values with its percentile interval, clusters drawn with replacement.

    Every value counts alike, so a cluster counts by its size. Clusters that are all alike give an interval of width
    zero, which says that no variation was seen and not that there is none: of few, nearly certain outcomes
    `proportion_interval` tells more.

    Args:
        values_by_cluster: the values of each cluster; one value each where nothing is clustered.
        seed: of the resampling.
        num_resamples: bootstrap means that the interval is read from.
        level: probability that the interval is meant to cover the true mean with.

    Raises:
        DataError: no cluster, an empty cluster, a value that is not finite, or a level outside (0, 1).

    Source:
        Efron & Tibshirani 1993, ch. 13; clusters: Field & Welsh 2007, JRSS B 69(3), sec. 2.
    """
    sums, sizes = _cluster_totals(values_by_cluster)
    _require_resampling(num_resamples, level)
    rng = np.random.default_rng(seed)
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    means = np.concatenate(
        [
            (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
            for size in _blocks(num_resamples, width=len(kinds))
            for drawn in (rng.multinomial(len(sums), counts / len(sums), size=size),)
        ]
    )
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(float(sums.sum() / sizes.sum()), float(low), float(high))


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int,
    num_resamples: int = 10_000,
    level: float = 0.95,
) -> PairedDifference:
    """Mean of first minus second over the same items: bootstrap interval, and a sign-flip permutation test.

    If neither is better, the sign of each cluster's summed difference is as good as the toss of a coin. The p-value
    is the share of tosses whose total is at least as far from zero as the one seen, the one seen counted among them,
    so that it is never zero.

    Args:
        first: one value per item.
        second: the values of the same items in the same order.
        clusters: to which cluster each item belongs; none: each is its own.
        seed: of the resampling and of the tosses.
        num_resamples: bootstrap means, and tosses.
        level: of the interval.

    Raises:
        DataError: the lengths differ, or anything that `mean_interval` refuses.

    Source:
        Fisher 1935, The Design of Experiments, sec. 21; with the one seen counted: Phipson & Smyth 2010, eq. 2.
    """
    names: Sequence[Hashable] = range(len(first)) if clusters is None else clusters
    if not len(first) == len(second) == len(names):
        raise DataError(
            f"{len(first)} values against {len(second)}, in clusters given for {len(names)}",
            why="a paired comparison needs both values and the cluster of every item",
        )
    grouped: dict[Hashable, list[float]] = {}
    for name, left, right in zip(names, first, second, strict=True):
        grouped.setdefault(name, []).append(float(left) - float(right))
    differences = list(grouped.values())
    interval = mean_interval(differences, seed=seed, num_resamples=num_resamples, level=level)
    sums, _ = _cluster_totals(differences)
    return PairedDifference(interval, _sign_flip_p(sums, seed=seed, num_resamples=num_resamples), len(differences))


def proportion_interval(num_successes: int, num_trials: int, *, level: float = 0.95) -> Interval:
    """A share of independent successes with Wilson's interval, which keeps its width at 0 and at 1.

    Raises:
        DataError: there is no trial, more successes than trials, or a level outside (0, 1).

    Source:
        Wilson 1927, JASA 22(158); computed by scipy.stats.
    """
    if not 0 <= num_successes <= num_trials or num_trials == 0:
        raise DataError(f"{num_successes} successes in {num_trials} trials", why="a share needs trials to be part of")
    _require_resampling(1, level)
    ends = binomtest(num_successes, num_trials).proportion_ci(confidence_level=level, method="wilson")
    return Interval(num_successes / num_trials, float(ends.low), float(ends.high))


def _sign_flip_p(sums: NDArray[np.float64], *, seed: int, num_resamples: int) -> float:
    """Two-sided p of the total under random signs; clusters of one size of difference are tossed together."""
    rng = np.random.default_rng([seed, 1])
    sizes, counts = np.unique(np.abs(sums), return_counts=True)
    seen = abs(float(sums.sum()))
    slack = 1e-9 * float(np.abs(sums).sum())
    num_as_far = 0
    for block in _blocks(num_resamples, width=len(sizes)):
        totals = (2 * rng.binomial(counts, 0.5, size=(block, len(counts))) - counts) @ sizes
        num_as_far += int((np.abs(totals) >= seen - slack).sum())
    return (num_as_far + 1) / (num_resamples + 1)


def _cluster_totals(values_by_cluster: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and size of each cluster, both as floats."""
    if not len(values_by_cluster):
        raise DataError("no values to take the mean of", fix="give at least one cluster with one value")
    sizes = np.array([len(values) for values in values_by_cluster], dtype=np.float64)
    if not sizes.all():
        raise DataError(f"cluster {int(np.argmin(sizes))} is empty", why="it has no mean", fix="leave it out")
    sums = np.array([float(np.sum(values, dtype=np.float64)) for values in values_by_cluster])
    if not np.isfinite(sums).all():
        wrong = int(np.argmin(np.isfinite(sums)))
        raise DataError(f"cluster {wrong} holds a value that is not finite", why="no mean could be finite")
    return sums, sizes


def _require_resampling(num_resamples: int, level: float) -> None:
    if num_resamples < 1:
        raise DataError(f"num_resamples is {num_resamples}", why="an interval is read from at least one resample")
    if not 0.0 < level < 1.0:
        raise DataError(f"level is {level}", why="a probability between 0 and 1 was expected", fix="level=0.95")


def _blocks(total: int, *, width: int) -> Iterable[int]:
    """Cuts `total` rows of `width` numbers into blocks of at most `BLOCK_SIZE` numbers."""
    rows = max(1, BLOCK_SIZE // width)
    return [min(rows, total - start) for start in range(0, total, rows)]
