import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.teacher_cache.codecs.rotation import block_size, rotated, rotated_back


@pytest.mark.parametrize(("hidden_size", "expected"), [(1024, 1024), (192, 64), (896, 128), (20, 4), (7, 1)])
def test_a_block_is_the_largest_power_of_two_that_divides_the_width(hidden_size, expected):
    assert block_size(hidden_size) == expected


def test_known_rotation():
    """Signs of places 0 to 3: only 3 = 11 shares its ones with 3 >> 1 = 1, so 1, 1, 1, -1: (1, 2, 3, -4).

    y_0 = 1 + 2 + 3 - 4, y_1 = 1 - 2 + 3 + 4, y_2 = 1 + 2 - 3 + 4, y_3 = 1 - 2 - 3 - 4.
    """
    assert rotated(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist() == [[2.0, 6.0, 4.0, -8.0]]


@given(seed=st.integers(0, 1000), hidden_size=st.integers(1, 200), tokens=st.integers(0, 3))
def test_rotating_back_undoes_it(seed, hidden_size, tokens):
    states = torch.randn(tokens, hidden_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(rotated_back(rotated(states)), states)


@pytest.mark.parametrize("hidden_size", [1, 2, 8, 12, 64, 96])
def test_lengths_and_angles_stay(hidden_size):
    """R R^T = n: sqrt(n) times a rotation."""
    matrix = rotated(torch.eye(hidden_size, dtype=torch.float64))
    torch.testing.assert_close(matrix @ matrix.T, block_size(hidden_size) * torch.eye(hidden_size).double())


@pytest.mark.parametrize("hidden_size", [64, 1024, 4096])
@pytest.mark.parametrize("state", ["one coordinate", "all equal"])
def test_neither_one_coordinate_nor_a_mean_piles_up(hidden_size, state):
    """Both have length sqrt(n) after the transform if spread evenly, which for an even power of two they are."""
    states = torch.full((1, hidden_size), hidden_size**-0.5) if state == "all equal" else torch.eye(hidden_size)[3:4]
    torch.testing.assert_close(rotated(states).abs(), torch.ones(1, hidden_size))


def test_numbers_on_a_grid_lose_nothing():
    states = (torch.randn(5, 768) * 64).round() / 64
    assert torch.equal(rotated_back(rotated(states)), states)
