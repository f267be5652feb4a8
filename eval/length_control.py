"""LC-minimal: what the win rate would be if the answers of both sides were equally long."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from distill.errors import DataError
from eval.intervals import cluster_draws
from eval.logit import fit_logit
from eval.scores import Interval

LABEL = "LC-minimal"
PRIOR_GAMES = 0.1
RIDGE = 0.01
LARGEST_SHIFT = 0.10


@dataclass(frozen=True)
class LengthControlled:
    """The win rate as it is and at equal lengths.

    Attributes:
        raw: mean outcome.
        win_rate: LC-minimal win rate with its percentile interval.
        length_effect: log-odds that a length difference far above the usual adds.
        warning: set where the two rates differ by more than ten points.
    """

    raw: float
    win_rate: Interval
    length_effect: float
    num_comparisons: int
    warning: str | None
    label: str = LABEL


def length_controlled(
    outcomes: Sequence[float],
    length_differences: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int,
    num_resamples: int = 1_000,
    level: float = 0.95,
) -> LengthControlled:
    r"""Fits log-odds of winning on the length difference and predicts at a difference of zero.

    .. math:: \mathrm{logit}\,P(\text{win}) = a + b \tanh(\Delta / \mathrm{std}(\Delta)), \qquad
        \mathrm{LC} = \frac{1}{1 + e^{-a}}

    A tie of 0.1 games at equal lengths and a ridge of 0.01 on b keep both finite where one side won all, or where
    length alone decides. The standard deviation is that of all the data in every resample. Measured coverage of the
    nominal 95 % interval over 80 questions of two turns: 93.0 % of 600 simulations.

    Args:
        outcomes: 1 for a win, 0.5 for a tie, 0 for a loss.
        length_differences: this side's length minus the other's, in the same order; characters or tokens.
        clusters: to which question each comparison belongs; none: each is its own.
        seed: of the resampling.
        num_resamples: fits that the interval is read from.
        level: of the interval.

    Raises:
        DataError: lengths that differ, an outcome outside [0, 1], a difference that is not finite, or fewer than two
            clusters.

    Source:
        Dubois et al. 2024, arXiv:2404.04475, eq. 2. Differs: without the difficulty of each instruction, which is
        known for AlpacaEval's own questions only; ridge and prior in place of cross-validated L1.
    """
    names: Sequence[Hashable] = range(len(outcomes)) if clusters is None else clusters
    if not len(outcomes) == len(length_differences) == len(names):
        raise DataError(
            f"{len(outcomes)} outcomes, {len(length_differences)} length differences, clusters given for {len(names)}",
            why="each comparison needs all three",
        )
    won, differences = np.asarray(outcomes, dtype=np.float64), np.asarray(length_differences, dtype=np.float64)
    if not ((won >= 0.0) & (won <= 1.0)).all():
        raise DataError("an outcome lies outside 0 to 1", why="1 is a win, 0.5 a tie, 0 a loss")
    if not np.isfinite(differences).all():
        raise DataError("a length difference is not finite", why="answers have finite lengths")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    draws = cluster_draws(len(numbers), num_resamples=num_resamples, seed=seed)
    weights = np.vstack([np.ones(len(numbers)), draws])[:, [numbers[name] for name in names]]
    spread = float(differences.std()) or 1.0
    shape = np.append(np.tanh(differences / spread), 0.0)
    prior = np.full((len(weights), 1), PRIOR_GAMES)
    fitted = fit_logit(
        np.stack([np.ones_like(shape), shape], axis=1),
        np.hstack([weights * won, prior / 2.0]),
        np.hstack([weights, prior]),
        ridge=np.array([0.0, RIDGE]),
    )
    rates = 1.0 / (1.0 + np.exp(-fitted[:, 0]))
    low, high = np.quantile(rates[1:], [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    raw, controlled = float(won.mean()), float(rates[0])
    return LengthControlled(
        raw=raw,
        win_rate=Interval(controlled, float(low), float(high)),
        length_effect=float(fitted[0, 1]),
        num_comparisons=len(outcomes),
        warning=_warning(raw, controlled),
    )


def _warning(raw: float, controlled: float) -> str | None:
    if abs(raw - controlled) <= LARGEST_SHIFT:
        return None
    return (
        f"the {LABEL} win rate is {100 * controlled:.1f} % and the raw one {100 * raw:.1f} %: more than"
        f" {100 * LARGEST_SHIFT:.0f} points apart, so lengths decide much of this comparison"
    )
