import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import DataError
from eval.reliability import cohen_kappa, judge_variance, krippendorff_alpha

# Krippendorff 2011, section C: four observers, twelve units, some values missing.
PUBLISHED = [
    [1, 1, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [5, 5, 5],
    [1, 1],
    [3],
]
UNITS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=2, max_size=8).filter(
    lambda units: any(len(unit) > 1 for unit in units)
)


def test_alpha_of_the_published_example():
    """Coincidences by hand: n = 40 values in pairs (unit 12 has one), n_c = 9, 13, 10, 5, 3.

    Off the diagonal: unit 2 gives o(2,3) = 3 * 1/3 = 1; unit 6 gives 1/3 to each of its six pairs; unit 8 gives
    o(1,2) = 1. So o(1,2) = 4/3, o(1,3) = 1/3, o(1,4) = 1/3, o(2,3) = 4/3, o(2,4) = 1/3, o(3,4) = 1/3.
    Nominal: sum o = 4 over unordered pairs; sum n_c n_k = (1600 - 81 - 169 - 100 - 25 - 9) / 2 = 608:
    alpha = 1 - 39 * 4 / 608 = 0.7434.
    Interval: sum o d^2 = 4/3 + 4/3 + 9/3 + 4/3 + 4/3 + 1/3 = 26/3;
    sum n_c n_k d^2 = 117 + 4*90 + 9*45 + 16*27 + 130 + 4*65 + 9*39 + 50 + 4*30 + 15 = 2240:
    alpha = 1 - 39 * (26/3) / 2240 = 0.8491.
    Ordinal: middles of ranks 4.5, 15.5, 27, 34.5, 38.5; distances 11, 22.5, 30, 34, 11.5, 19, 23, 7.5, 11.5, 4;
    sum o d^2 = 4/3 * 121 + 506.25/3 + 900/3 + 4/3 * 132.25 + 361/3 + 56.25/3 = 945.5;
    sum n_c n_k d^2 = 117*121 + 90*506.25 + 45*900 + 27*1156 + 130*132.25 + 65*361 + 39*529 + 50*56.25 + 30*132.25
    + 15*16 = 199,740: alpha = 1 - 39 * 945.5 / 199740 = 0.8154.
    The source gives 0.743, 0.815 and 0.849.
    """
    assert krippendorff_alpha(PUBLISHED, measurement="nominal") == pytest.approx(1 - 39 * 4 / 608)
    assert krippendorff_alpha(PUBLISHED, measurement="interval") == pytest.approx(1 - 39 * (26 / 3) / 2240)
    assert krippendorff_alpha(PUBLISHED, measurement="ordinal") == pytest.approx(1 - 39 * 945.5 / 199740)
    rounded = [round(krippendorff_alpha(PUBLISHED, measurement=m), 3) for m in ("nominal", "ordinal", "interval")]
    assert rounded == [0.743, 0.815, 0.849]


@settings(max_examples=20)
@given(UNITS, st.randoms(use_true_random=False))
def test_alpha_knows_neither_raters_nor_order(units, shuffler):
    mixed = [shuffler.sample(unit, len(unit)) for unit in shuffler.sample(units, len(units))]
    for measurement in ("nominal", "ordinal", "interval"):
        one, other = (krippendorff_alpha(u, measurement=measurement) for u in (units, mixed))
        assert one == pytest.approx(other)
        assert one <= 1.0


def test_raters_who_agree_have_alpha_one_and_coins_zero():
    assert krippendorff_alpha([[1, 1], [2, 2]], measurement="nominal") == 1.0
    assert krippendorff_alpha([[3, 3], [3, 3]], measurement="interval") == 1.0
    coins = random.Random(0)
    tossed = [[coins.randint(0, 1), coins.randint(0, 1)] for _ in range(4_000)]
    assert krippendorff_alpha(tossed, measurement="nominal") == pytest.approx(0.0, abs=0.05)


def test_kappa_known_answer():
    """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: agreement 0.7; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5: 0.2 / 0.5."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(first, first) == 1.0
    assert cohen_kappa(["a", "a"], ["a", "a"]) == 1.0


def test_weighted_kappa_known_answer():
    """(1,1), (2,2), (3,3), (1,3): linear: seen 2/4; expected: r = 2/4, 1/4, 1/4 and c = 1/4, 1/4, 2/4:
    r1c2 + 2 r1c3 + r2c1 + r2c3 + 2 r3c1 + r3c2 = (2 + 8 + 1 + 2 + 2 + 1) / 16 = 1: kappa = 1/2.
    Squares: seen 4/4; expected (2 + 16 + 1 + 2 + 4 + 1) / 16 = 26/16: kappa = 1 - 16/26 = 5/13.
    """
    first, second = [1, 2, 3, 1], [1, 2, 3, 3]
    assert cohen_kappa(first, second, categories=[1, 2, 3], weights="linear") == pytest.approx(0.5)
    assert cohen_kappa(first, second, categories=[1, 2, 3], weights="quadratic") == pytest.approx(5 / 13)


def test_judge_variance_known_answer():
    """Questions (4, 6), (8, 8): means 5 and 8, repeats 6 and 7, grand 6.5.

    Q = 2 (2.25 + 2.25) / 1 = 9; R = 2 (0.25 + 0.25) / 1 = 1; rest -+0.5 each: E = 4 * 0.25 / 1 = 1.
    Questions (9 - 1) / 2 = 4; repeats (1 - 1) / 2 = 0; SE = sqrt(1 / 2); reliability 4 / (4 + 0 + 1).
    """
    variance = judge_variance([[4, 6], [8, 8]])
    assert (variance.between_questions, variance.between_repeats, variance.residual) == (4.0, 0.0, 1.0)
    assert variance.judge_standard_error == pytest.approx(math.sqrt(0.5))
    assert variance.reliability == pytest.approx(0.8)


def test_planted_variances_are_recovered():
    """Mean of 60 worlds with 2.0 between questions, 0.1 between repeats and 0.5 of noise; each within 15 or 25 %."""
    rng = np.random.default_rng(1)
    worlds = [
        judge_variance(
            (
                rng.normal(0, 2**0.5, (80, 1)) + rng.normal(0, 0.1**0.5, (1, 10)) + rng.normal(0, 0.5**0.5, (80, 10))
            ).tolist()
        )
        for _ in range(60)
    ]
    assert np.mean([w.between_questions for w in worlds]) == pytest.approx(2.0, rel=0.15)
    assert np.mean([w.between_repeats for w in worlds]) == pytest.approx(0.1, rel=0.25)
    assert np.mean([w.residual for w in worlds]) == pytest.approx(0.5, rel=0.15)


def test_a_judge_that_repeats_itself_has_no_variance():
    variance = judge_variance([[7, 7], [3, 3]])
    assert (variance.judge_standard_error, variance.reliability) == (0.0, 1.0)
    assert judge_variance([[5, 5], [5, 5]]).reliability is None


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], "0 questions judged 0 times"),
        ([[1.0], [2.0]], "2 questions judged 1 times"),
        ([[1.0, 2.0], [1.0]], "question 1 has 1 scores where question 0 has 2"),
        ([[1.0, 2.0], [1.0, math.nan]], "a score is not finite"),
    ],
)
def test_scores_without_variances_are_refused(scores, message):
    with pytest.raises(DataError, match=message):
        judge_variance(scores)


def test_ratings_that_cannot_be_compared_are_refused():
    with pytest.raises(DataError, match="1 ratings against 2"):
        cohen_kappa(["a"], ["a", "b"])
    with pytest.raises(DataError, match="0 ratings against 0"):
        cohen_kappa([], [])
    with pytest.raises(DataError, match="kappa with linear weights\nwhy: the order"):
        cohen_kappa(["a"], ["b"], weights="linear")
    with pytest.raises(DataError, match="'c' is none of the categories"):
        cohen_kappa(["a"], ["c"], categories=["a", "b"])
    with pytest.raises(DataError, match="no unit has two ratings"):
        krippendorff_alpha([[1.0]], measurement="nominal")
    with pytest.raises(DataError, match="a rating is not finite"):
        krippendorff_alpha([[1.0, math.nan]], measurement="nominal")
