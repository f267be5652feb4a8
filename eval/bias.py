"""What moves a judge besides quality: the slot an answer stands in, and its length."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ConstantInputWarning, binomtest, spearmanr

from distill.errors import DataError
from eval.intervals import clustered_interval
from eval.judged_pairs import JudgedPair, by_question
from eval.scores import Interval


@dataclass(frozen=True)
class PositionBias:
    """How one judge's verdicts hang on the order of the answers.

    Attributes:
        num_pairs: pairs with a verdict in both orders; `num_unscored` more have none in one of them.
        consistency: share of pairs whose two orders agree, resampled by question; None for one question.
        num_first, num_second: inconsistent pairs that lean to the first and to the second slot.
        first_slot_among_inconsistent: share of the first with its exact interval; None where all are consistent.
        p_value: exact; would a judge without a favourite slot lean so far?
        first_slot_rate: share of games that the first slot won, ties as half, resampled by question. Over both orders
            each answer stands in each slot once, so that an unbiased judge has a half whatever the answers are worth.
    """

    num_pairs: int
    num_unscored: int
    consistency: Interval | None
    num_first: int
    num_second: int
    first_slot_among_inconsistent: Interval | None
    p_value: float
    first_slot_rate: Interval | None


@dataclass(frozen=True)
class LengthPreference:
    """How one judge's verdicts go with the lengths of the answers; a good answer may need its length.

    Attributes:
        num_pairs: scored pairs of known lengths.
        num_decided: those with a winner and unequal lengths.
        longer_wins: share of these that the longer answer won, resampled by question; None below two questions.
        winner_length_ratio: geometric mean of the winner's length over the loser's; None where one is empty.
        rank_correlation: Spearman's, of length difference and averaged outcome; None where either is constant.
    """

    num_pairs: int
    num_decided: int
    longer_wins: Interval | None
    winner_length_ratio: float | None
    rank_correlation: float | None


def position_bias(
    pairs: Sequence[JudgedPair], *, seed: int, num_resamples: int = 10_000, level: float = 0.95
) -> PositionBias:
    """Diagnoses one judge from pairs judged in both orders.

    An inconsistent pair leans to the slot that won more of its two games; one game tied leaves the other to tell.

    Raises:
        DataError: there is no pair, or none with a verdict in both orders.

    Source:
        Zheng et al. 2023, arXiv:2306.05685, sec. 3.3 and table 2; exact interval: Clopper & Pearson 1934.
    """
    scored = [pair for pair in pairs if pair.is_scored]
    if not scored:
        raise DataError(
            f"{len(pairs)} pairs, none with a verdict in both orders",
            why="a favourite slot shows only where both orders were judged",
            fix="judge again with --retry-failed",
        )
    inconsistent = [pair for pair in scored if not pair.is_consistent]
    num_first = sum(sum(pair.first_slots) > 1.0 for pair in inconsistent)
    groups = by_question(scored)
    return PositionBias(
        num_pairs=len(scored),
        num_unscored=len(pairs) - len(scored),
        consistency=_share(
            [[float(pair.is_consistent) for pair in group] for group in groups], seed, num_resamples, level
        ),
        num_first=num_first,
        num_second=len(inconsistent) - num_first,
        first_slot_among_inconsistent=_exact(num_first, len(inconsistent), level=level),
        p_value=float(binomtest(num_first, len(inconsistent), 0.5).pvalue) if inconsistent else 1.0,
        first_slot_rate=_share(
            [[slot for pair in group for slot in pair.first_slots] for group in groups], seed, num_resamples, level
        ),
    )


def length_preference(
    pairs: Sequence[JudgedPair], *, seed: int, num_resamples: int = 10_000, level: float = 0.95
) -> LengthPreference | None:
    """How one judge's verdicts go with length; None where no scored pair's lengths are known.

    Source:
        P(longer wins): Dubois et al. 2023, arXiv:2305.14387, sec. 4.
    """
    sized = [(pair, pair.lengths) for pair in pairs if pair.is_scored and pair.lengths is not None]
    if not sized:
        return None
    longer_won: dict[int, list[float]] = {}
    ratios = []
    for pair, (first, second) in sized:
        outcome = pair.outcome("averaged")
        if outcome == 0.5 or first == second:
            continue
        longer_won.setdefault(pair.question_id, []).append(float((outcome > 0.5) == (first > second)))
        won, lost = (first, second) if outcome > 0.5 else (second, first)
        ratios.append(math.log(won / lost) if won and lost else math.nan)
    mean_ratio = float(np.mean(ratios)) if ratios else math.nan
    return LengthPreference(
        num_pairs=len(sized),
        num_decided=len(ratios),
        longer_wins=_share(list(longer_won.values()), seed, num_resamples, level),
        winner_length_ratio=None if math.isnan(mean_ratio) else math.exp(mean_ratio),
        rank_correlation=rank_correlation(
            [first - second for _, (first, second) in sized], [pair.outcome("averaged") for pair, _ in sized]
        ),
    )


def rank_correlation(lengths: Sequence[float], scores: Sequence[float]) -> float | None:
    """Spearman's correlation of lengths (or their differences) and scores; None where either never changes.

    Raises:
        DataError: there are not as many lengths as scores.
    """
    if len(lengths) != len(scores):
        raise DataError(f"{len(lengths)} lengths for {len(scores)} scores", why="each score needs its answer's length")
    if len(lengths) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        correlation = float(spearmanr(lengths, scores).statistic)
    return None if math.isnan(correlation) else correlation


def _share(values: list[list[float]], seed: int, num_resamples: int, level: float) -> Interval | None:
    if len(values) < 2:
        return None
    return clustered_interval(values, scale=(0.0, 1.0), seed=seed, num_resamples=num_resamples, level=level)


def _exact(num_successes: int, num_trials: int, *, level: float) -> Interval | None:
    if not num_trials:
        return None
    ends = binomtest(num_successes, num_trials).proportion_ci(confidence_level=level, method="exact")
    return Interval(num_successes / num_trials, float(ends.low), float(ends.high))
