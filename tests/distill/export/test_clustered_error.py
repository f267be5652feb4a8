import pytest
import torch

from distill.export.clustered_error import clustered_standard_error


def test_standard_error_known_answer():
    """Values 1, 3 | 2, 6 with mean 3: residual sums -2 and 2; sqrt(2/1 * (4 + 4)) / 4 = 1."""
    values, owners = torch.tensor([1.0, 3.0, 2.0, 6.0]).double(), torch.tensor([0, 0, 1, 1])
    assert clustered_standard_error(values, owners, num_clusters=2) == pytest.approx(1.0)


def test_tokens_of_a_chat_count_together():
    """Copies of a chat's tokens tell nothing new: the error stays, where independent tokens would halve its square."""
    values, owners = torch.tensor([1.0, 3.0]).double(), torch.tensor([0, 1])
    once = clustered_standard_error(values, owners, num_clusters=2)
    twice = clustered_standard_error(values.repeat(2), owners.repeat(2), num_clusters=2)
    assert once == pytest.approx(twice) == pytest.approx(1.0)


def test_a_single_chat_has_no_standard_error():
    assert clustered_standard_error(torch.ones(3), torch.zeros(3, dtype=torch.int64), num_clusters=1) is None
