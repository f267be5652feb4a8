import math

import numpy as np
import pytest
from scipy.stats import beta

from distill.errors import DataError
from eval.bias import length_preference, position_bias, rank_correlation
from eval.judged_pairs import JudgedPair

NUM_RUNS = 100


def pair(question, first, second, lengths=None, turn=1):
    return JudgedPair(question, turn, "judge", "a", "b", (first, second), lengths)


def simulated(rng, first_slot_chance, num_questions=80):
    """Equal answers: in each order the first slot wins by that chance; two turns a question."""
    slots = rng.random((num_questions, 2, 2)) < first_slot_chance
    return [
        pair(q, "model_1" if one else "model_2", "model_2" if two else "model_1", turn=turn + 1)
        for q in range(num_questions)
        for turn, (one, two) in enumerate(slots[q])
    ]


def test_a_judge_who_favours_the_first_slot_is_diagnosed():
    """First slot with 0.8 on equal answers. Both games first: 0.64; both second: 0.04; the rest agrees: 0.32.

    Among inconsistent pairs the first slot is favoured in 0.64 / 0.68 = 16/17. In at least 90 of 100 seeded runs each
    figure's interval holds its truth, and the test tells the judge from a fair one in every run.
    """
    rng = np.random.default_rng(0)
    covered = np.zeros(3, dtype=int)
    for run in range(NUM_RUNS):
        bias = position_bias(simulated(rng, 0.8), seed=run, num_resamples=1_000)
        found = (bias.first_slot_rate, bias.first_slot_among_inconsistent, bias.consistency)
        covered += [i.low <= truth <= i.high for i, truth in zip(found, (0.8, 16 / 17, 0.32), strict=True)]
        assert bias.first_slot_rate.low > 0.5
        assert bias.p_value < 1e-6
    assert covered.min() >= 90


def test_a_fair_judge_is_not_accused():
    """In at least 90 of 100 runs the intervals hold a half; the exact test errs in no more than 1 in 20 or so."""
    rng = np.random.default_rng(1)
    biases = [position_bias(simulated(rng, 0.5), seed=run, num_resamples=1_000) for run in range(NUM_RUNS)]
    assert sum(b.first_slot_rate.low <= 0.5 <= b.first_slot_rate.high for b in biases) >= 90
    assert sum(b.p_value < 0.05 for b in biases) <= 10


def test_position_bias_known_answer():
    """Six pairs: two agree, three lean to the first slot (one by a tie), one to the second; one more is unscored.

    Slots won first: 1+0, 1/2+1/2, 1+1, 1+1, 1+1/2, 0+0: 7.5 of 12. Exact interval of 3 in 4: quantiles of
    beta(3, 2) and beta(4, 1); p = 2 (1 + 4) / 2^4.
    """
    games = ["model_1 model_1", "tie tie", "model_1 model_2", "model_1 model_2", "model_1 tie", "model_2 model_1"]
    pairs = [pair(number, *game.split()) for number, game in enumerate(games)] + [pair(9, "tie", "error")]
    bias = position_bias(pairs, seed=2)
    assert (bias.num_pairs, bias.num_unscored, bias.num_first, bias.num_second) == (6, 1, 3, 1)
    assert bias.consistency.mean == pytest.approx(2 / 6)
    assert bias.first_slot_rate.mean == pytest.approx(7.5 / 12)
    exact = bias.first_slot_among_inconsistent
    assert (exact.mean, exact.low, exact.high) == (
        0.75,
        pytest.approx(beta.ppf(0.025, 3, 2)),
        pytest.approx(beta.ppf(0.975, 4, 1)),
    )
    assert bias.p_value == pytest.approx(10 / 16)


def test_exchanging_the_models_leaves_the_judge_as_it_is():
    rng = np.random.default_rng(3)
    pairs = simulated(rng, 0.7)
    other = {"model_1": "model_2", "model_2": "model_1"}
    turned = [pair(p.question_id, other[p.games[1]], other[p.games[0]], turn=p.turn) for p in pairs]
    one, two = position_bias(pairs, seed=3), position_bias(turned, seed=3)
    assert (one.num_first, one.num_second, one.consistency) == (two.num_first, two.num_second, two.consistency)


def test_a_consistent_judge_has_no_favourite_slot():
    bias = position_bias([pair(1, "tie", "tie"), pair(1, "model_1", "model_1", turn=2)], seed=4)
    assert (bias.first_slot_among_inconsistent, bias.p_value, bias.consistency) == (None, 1.0, None)


def test_length_preference_known_answer():
    """Decided with unequal lengths: 200:100 won by the longer, 100:50 by the shorter, 10:40 by the longer.

    ln ratios of winner to loser: ln 2, -ln 2, ln 4: the mean is (ln 4) / 3. Ranks of the differences (100, 50, -30,
    0, 7) are 5, 4, 1, 2, 3, of the outcomes (1, 0, 0, 1, 1/2) are 4.5, 1.5, 1.5, 4.5, 3: deviations from 3 give
    (2 * 1.5 - 1 * 1.5 + 2 * 1.5 - 1 * 1.5) / sqrt(10 * 9) = 3 / sqrt(90).
    """
    pairs = [
        pair(1, "model_1", "model_1", (200, 100)),
        pair(2, "model_2", "model_2", (100, 50)),
        pair(3, "model_2", "model_2", (10, 40)),
        pair(4, "model_1", "model_1", (70, 70)),
        pair(5, "model_1", "model_2", (17, 10)),
        pair(6, "model_1", "model_1"),
        pair(7, "error", "tie", (1, 9)),
    ]
    found = length_preference(pairs, seed=5)
    assert (found.num_pairs, found.num_decided) == (5, 3)
    assert found.longer_wins.mean == pytest.approx(2 / 3)
    assert found.winner_length_ratio == pytest.approx(4 ** (1 / 3))
    assert found.rank_correlation == pytest.approx(3 / math.sqrt(90))


def test_lengths_that_tell_nothing_give_no_figures():
    assert length_preference([pair(1, "tie", "tie")], seed=6) is None
    same = length_preference([pair(1, "tie", "tie", (5, 5)), pair(2, "tie", "tie", (5, 5))], seed=6)
    assert (same.longer_wins, same.winner_length_ratio, same.rank_correlation) == (None, None, None)
    empty = length_preference([pair(n, "model_1", "model_1", (5, 0)) for n in range(3)], seed=6)
    assert (empty.longer_wins.mean, empty.winner_length_ratio) == (1.0, None)
    assert rank_correlation([1.0], [1.0]) is None


def test_what_cannot_be_diagnosed_is_refused():
    with pytest.raises(DataError, match="1 pairs, none with a verdict in both orders"):
        position_bias([pair(1, "error", "tie")], seed=0)
    with pytest.raises(DataError, match="1 lengths for 2 scores"):
        rank_correlation([1], [1, 2])
