import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import DataError
from eval.paired import exact_sign_flip_p, sign_test_p, studentised_difference


def test_three_wins_known_answer():
    """Differences 1, 2, 3: of 8 patterns only all plus and all minus reach 6: p = 1/4, exactly."""
    result = studentised_difference([2.0, 3.0, 4.0], [1.0, 1.0, 1.0], seed=0)
    assert result.p_value == 0.25
    assert result.difference.mean == 2.0
    assert result.difference.low < 2.0 < result.difference.high
    assert result.num_clusters == 3


@settings(max_examples=25)
@given(st.lists(st.integers(-4, 4), min_size=0, max_size=7))
def test_the_exact_p_is_the_share_of_patterns(sums):
    """By going through all patterns of the clusters that differ."""
    moved = [value for value in sums if value]
    patterns = list(itertools.product((-1, 1), repeat=len(moved)))
    far = [abs(sum(s * v for s, v in zip(signs, moved, strict=True))) >= abs(sum(sums)) for signs in patterns]
    assert exact_sign_flip_p(np.array(sums, dtype=float)) == pytest.approx(sum(far) / len(patterns))


def test_above_sixteen_clusters_signs_are_drawn():
    """All of 17 win: 2 / 2^17 is below what 999 draws can show, 1 / 1000."""
    assert exact_sign_flip_p(np.ones(17)) is None
    result = studentised_difference(list(np.arange(17) + 1.0), [0.0] * 17, seed=1, num_resamples=999)
    assert result.p_value == 0.001


def test_turns_of_a_question_move_together():
    """Six wins in two questions: p = 2 / 2^2; the interval is that of two clusters."""
    result = studentised_difference([1.0] * 6, [0.0] * 6, clusters=[1, 1, 1, 2, 2, 2], seed=2)
    assert (result.p_value, result.num_clusters) == (0.5, 2)


def test_the_scale_bounds_the_difference():
    result = studentised_difference([10.0, 10.0, 9.0], [1.0, 1.0, 1.0], scale=(1, 10), seed=3)
    assert result.difference.high == 9.0
    with pytest.raises(DataError, match="cluster 0 holds 10\nwhy: the scale goes from -9 to 9"):
        studentised_difference([11.0, 1.0], [1.0, 1.0], scale=(1, 10), seed=3)


def test_sign_test_known_answers():
    """9 of 10: 2 (1 + 10) / 2^10; ties say nothing."""
    assert sign_test_p(9, 1) == pytest.approx(22 / 1024)
    assert sign_test_p(0, 0) == 1.0
    with pytest.raises(DataError, match="-1 wins and 2 losses"):
        sign_test_p(-1, 2)


def test_pairs_are_needed():
    with pytest.raises(DataError, match="a paired comparison needs both values"):
        studentised_difference([1.0], [1.0, 2.0], seed=0)
