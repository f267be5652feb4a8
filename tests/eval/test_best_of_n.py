"""Best-of-n for every n against all ways to draw, counted out."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import DataError
from eval.best_of_n import best_of_n, kl_of_best_of_n


def test_two_of_three_by_hand():
    """Scores 1, 2, 3 with values 0, 1, 0: the best of {1,2} is worth 1, of {1,3} and {2,3} 0: 1/3."""
    found = best_of_n(np.array([[1.0, 2.0, 3.0]]), np.array([[0.0, 1.0, 0.0]]), [1, 2, 3])
    np.testing.assert_allclose(found[:, 0], [1 / 3, 1 / 3, 0.0], atol=1e-12)


@given(
    scores=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    values=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    n=st.integers(1, 4),
)
def test_it_is_the_mean_over_all_draws_equal_scores_by_lot(scores, values, n):
    expected = []
    for drawn in itertools.combinations(range(4), n):
        top = max(scores[i] for i in drawn)
        expected.append(np.mean([values[i] for i in drawn if scores[i] == top]))
    found = best_of_n(np.array([scores], dtype=float), np.array([values]), [n])
    assert found[0, 0] == pytest.approx(np.mean(expected), abs=1e-9)


def test_the_best_by_its_own_score_never_falls_with_n():
    scores = np.random.default_rng(0).normal(size=(3, 16))
    assert (np.diff(best_of_n(scores, scores, list(range(1, 17))), axis=0) >= -1e-12).all()


def test_the_distance_of_best_of_two():
    assert kl_of_best_of_n(1) == 0.0
    assert kl_of_best_of_n(2) == pytest.approx(math.log(2) - 0.5)


def test_more_than_there_are_cannot_be_drawn():
    with pytest.raises(DataError, match="n is 3"):
        best_of_n(np.zeros((1, 2)), np.zeros((1, 2)), [3])
    with pytest.raises(DataError, match="one of each an answer was expected"):
        best_of_n(np.zeros((1, 2)), np.zeros((2, 2)), [1])
