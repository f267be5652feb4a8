"""How far raters agree beyond chance, and how much of a score's variation comes from asking the judge again."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from distill.errors import DataError

Floats = NDArray[np.float64]
Measurement = Literal["nominal", "ordinal", "interval"]


def cohen_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    *,
    categories: Sequence[Hashable] | None = None,
    weights: Literal["none", "linear", "quadratic"] = "none",
) -> float:
    r"""Agreement of two raters beyond what their own frequencies give by chance.

    .. math:: 1 - \frac{\sum_{ij} w_{ij}\, o_{ij}}{\sum_{ij} w_{ij}\, r_i c_j}

    with o the shares of (i, j), r and c the raters' shares, w the disagreement: 1 off the diagonal, or the distance
    of the categories' places, or its square.

    Args:
        first: one category per item.
        second: the other rater's, the same items.
        categories: all of them in order; needed for weights.
        weights: how disagreements count.

    Returns:
        1 for full agreement, 0 for chance; 1 also where both use one and the same category throughout.

    Raises:
        DataError: no item, lengths that differ, a value that is no category, or weights without an order.

    Source:
        Cohen 1960, Educ. Psychol. Meas. 20(1); weights: Cohen 1968, Psychol. Bull. 70(4).
    """
    if len(first) != len(second) or not first:
        raise DataError(
            f"{len(first)} ratings against {len(second)}", why="both must rate the same items, at least one"
        )
    if weights != "none" and categories is None:
        raise DataError(f"kappa with {weights} weights", why="the order of the categories is not known")
    names = list(dict.fromkeys([*first, *second])) if categories is None else list(categories)
    places = {name: number for number, name in enumerate(names)}
    unknown = next((value for value in (*first, *second) if value not in places), None)
    if unknown is not None:
        raise DataError(f"{unknown!r} is none of the categories", fix="name it in `categories`")
    seen = np.zeros((len(names), len(names)))
    for left, right in zip(first, second, strict=True):
        seen[places[left], places[right]] += 1.0 / len(first)
    distance = np.abs(np.subtract.outer(np.arange(len(names)), np.arange(len(names)))).astype(np.float64)
    disagreement = {"none": np.sign(distance), "linear": distance, "quadratic": distance**2}[weights]
    expected = float((disagreement * np.outer(seen.sum(1), seen.sum(0))).sum())
    return 1.0 if expected == 0.0 else 1.0 - float((disagreement * seen).sum()) / expected


def krippendorff_alpha(units: Sequence[Sequence[float]], *, measurement: Measurement) -> float:
    r"""Agreement of any number of raters, of whom some may not have rated some units.

    .. math:: \alpha = 1 - \frac{D_o}{D_e}, \quad D_o = \frac1n \sum_{ck} o_{ck}\, \delta_{ck}, \quad
        D_e = \frac{1}{n (n - 1)} \sum_{ck} n_c n_k\, \delta_{ck}

    with o the coincidences: each ordered pair of values of one unit counts 1 / (ratings of the unit - 1).

    Args:
        units: the ratings of each unit; who gave them does not matter. Units with fewer than two are left out.
        measurement: how far two values are apart: different or not, by rank, or by their square difference.

    Returns:
        1 for full agreement, 0 for chance, less for worse; 1 also where all values are the same.

    Raises:
        DataError: no unit has two ratings, or a value is not finite.

    Source:
        Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, sections C and D.
    """
    rated = [unit for unit in units if len(unit) > 1]
    if not rated:
        raise DataError("no unit has two ratings", why="agreement needs two")
    values = np.array(sorted({float(value) for unit in rated for value in unit}))
    if not np.isfinite(values).all():
        raise DataError("a rating is not finite", why="it cannot be compared", fix="leave missing ratings out")
    places = {value: number for number, value in enumerate(values.tolist())}
    coincidences = np.zeros((len(values), len(values)))
    for unit in rated:
        counts = np.bincount([places[float(value)] for value in unit], minlength=len(values)).astype(np.float64)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)
    totals = coincidences.sum(1)
    distance = _distance(values, totals, measurement)
    expected = float((np.outer(totals, totals) * distance).sum()) / (totals.sum() - 1.0)
    return 1.0 if expected == 0.0 else 1.0 - float((coincidences * distance).sum()) / expected


@dataclass(frozen=True)
class JudgeVariance:
    """Variances of single scores in squared points; those that come out negative are given as 0.

    Attributes:
        between_questions: how much questions differ.
        between_repeats: how far a whole run of the judge is shifted against another.
        residual: what is left: the judge's noise on single questions.
        judge_standard_error: of one run's mean over these questions, were only the judge to be asked again.
        reliability: correlation of two runs' scores of the same question (ICC(2,1)); None where nothing varies.
    """

    between_questions: float
    between_repeats: float
    residual: float
    judge_standard_error: float
    reliability: float | None


def judge_variance(scores: Sequence[Sequence[float]]) -> JudgeVariance:
    r"""Splits the variance of repeated judgments in two ways: by question and by repeat.

    With mean squares Q of questions, R of repeats and E of the rest, over n questions and k repeats:

    .. math:: \sigma_E^2 = E, \quad \sigma_R^2 = (R - E) / n, \quad \sigma_Q^2 = (Q - E) / k, \quad
        \mathrm{SE} = \sqrt{\sigma_R^2 + \sigma_E^2 / n}

    Args:
        scores: of each question, one score per repeat; all the same number, at least two.

    Raises:
        DataError: fewer than two questions or repeats, a question with another number of them, or no finite score.

    Source:
        Two-way random effects without replication: Shrout & Fleiss 1979, Psychol. Bull. 86(2), case 2.
    """
    num_questions, num_repeats = len(scores), len(scores[0]) if scores else 0
    if num_questions < 2 or num_repeats < 2:
        raise DataError(
            f"{num_questions} questions judged {num_repeats} times",
            why="variances need at least two of each",
            fix="judge again with more repeats",
        )
    for number, repeats in enumerate(scores):
        if len(repeats) != num_repeats:
            raise DataError(
                f"question {number} has {len(repeats)} scores where question 0 has {num_repeats}",
                why="the two-way split needs every question in every repeat",
                fix="leave out questions that a repeat left unscored",
            )
    table = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(table).all():
        raise DataError("a score is not finite", why="no variance could be finite")
    questions, repeats_mean, mean = table.mean(1), table.mean(0), table.mean()
    question_square = num_repeats * float(((questions - mean) ** 2).sum()) / (num_questions - 1)
    repeat_square = num_questions * float(((repeats_mean - mean) ** 2).sum()) / (num_repeats - 1)
    rest = table - questions[:, None] - repeats_mean + mean
    residual = float((rest**2).sum()) / ((num_questions - 1) * (num_repeats - 1))
    between_questions = max(0.0, (question_square - residual) / num_repeats)
    between_repeats = max(0.0, (repeat_square - residual) / num_questions)
    total = between_questions + between_repeats + residual
    return JudgeVariance(
        between_questions,
        between_repeats,
        residual,
        judge_standard_error=(between_repeats + residual / num_questions) ** 0.5,
        reliability=between_questions / total if total > 0.0 else None,
    )


def _distance(values: Floats, totals: Floats, measurement: Measurement) -> Floats:
    """Squared distances [value, value]."""
    if measurement == "nominal":
        return 1.0 - np.eye(len(values))
    if measurement == "interval":
        return np.subtract.outer(values, values) ** 2
    # The distance of ranks is the number of ratings between two values, half of their own included.
    middles = np.cumsum(totals) - totals / 2.0
    return np.subtract.outer(middles, middles) ** 2
