import pytest

from distill.export.greedy_divergence import first_difference, median_position


@pytest.mark.parametrize(
    ("expected", "actual", "position"),
    [
        ([1, 2, 3], [1, 2, 3], None),
        ([1, 2, 3], [1, 5, 3], 1),
        ([1, 2, 3], [1, 2], 2),
        ([1, 2], [1, 2, 3], 2),
        ([1], [2], 0),
        ([], [], None),
        ([], [4], 0),
    ],
)
def test_the_first_token_that_differs_is_found(expected, actual, position):
    assert first_difference(expected, actual) == position


@pytest.mark.parametrize(
    ("positions", "median"),
    [
        ([3, 1, 2], 2.0),
        ([1, 2], 1.5),
        ([1, None, 5], 5.0),
        ([1, None], None),
        ([None, None, 3], None),
        ([1, 2, 7, None], 4.5),
        ([], None),
    ],
)
def test_answers_that_never_differ_count_as_the_latest(positions, median):
    assert median_position(positions) == median
