"""Wins, ties and losses of one side, the share of wins with ties as half, and wins less losses."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from distill.errors import DataError
from eval.intervals import clustered_interval
from eval.paired import sign_test_p
from eval.scores import Interval, proportion_interval

WIN, TIE, LOSS = 1.0, 0.5, 0.0


@dataclass(frozen=True)
class WinRate:
    """Outcomes of one side.

    Attributes:
        num_wins, num_ties, num_losses: comparisons; an averaged outcome of 0.25 or 0.75 counts as a loss or a win.
        win_rate: mean outcome, ties as half, resampled by cluster.
        signed_rate: (wins - losses) / comparisons, which is 2 win_rate - 1, with the same interval.
        decided: wins among the clusters that are not tied, by Wilson's interval; none where all are.
        p_value: sign test over clusters: is either side as likely to win one?
    """

    num_wins: int
    num_ties: int
    num_losses: int
    num_clusters: int
    win_rate: Interval
    signed_rate: Interval
    decided: Interval | None
    p_value: float


def win_rate(
    outcomes: Sequence[float],
    *,
    clusters: Sequence[Hashable] | None = None,
    seed: int,
    num_resamples: int = 10_000,
    level: float = 0.95,
) -> WinRate:
    """Summarises outcomes of one side against another.

    Args:
        outcomes: 1 for a win, 0.5 for a tie, 0 for a loss; between them, the mean of several verdicts.
        clusters: to which question each outcome belongs; none: each is its own.
        seed: of the resampling.
        num_resamples: bootstrap means.
        level: of the intervals.

    Raises:
        DataError: an outcome outside [0, 1], lengths that differ, or fewer than two clusters.
    """
    names: Sequence[Hashable] = range(len(outcomes)) if clusters is None else clusters
    if len(names) != len(outcomes):
        raise DataError(f"{len(outcomes)} outcomes in clusters given for {len(names)}", fix="name one for each")
    grouped: dict[Hashable, list[float]] = {}
    for name, outcome in zip(names, outcomes, strict=True):
        grouped.setdefault(name, []).append(outcome)
    rate = clustered_interval(
        list(grouped.values()), scale=(LOSS, WIN), seed=seed, num_resamples=num_resamples, level=level
    )
    totals = [sum(values) - TIE * len(values) for values in grouped.values()]
    won, lost = sum(total > 0 for total in totals), sum(total < 0 for total in totals)
    return WinRate(
        num_wins=sum(outcome > TIE for outcome in outcomes),
        num_ties=sum(outcome == TIE for outcome in outcomes),
        num_losses=sum(outcome < TIE for outcome in outcomes),
        num_clusters=len(grouped),
        win_rate=rate,
        signed_rate=Interval(2 * rate.mean - 1, 2 * rate.low - 1, 2 * rate.high - 1),
        decided=proportion_interval(won, won + lost, level=level) if won + lost else None,
        p_value=sign_test_p(won, lost),
    )
