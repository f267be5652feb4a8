import math

import pytest
import torch

from distill.errors import ExportError
from distill.export.next_token import next_token_kl, probe_prefixes


def test_next_token_kl_known_answer():
    """p = (1/2, 1/2) against q = (1/4, 3/4) gives 1/2 ln 4/3; against itself 0; on average half of it."""
    half, quarter = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    assert next_token_kl([half, half], [quarter.tolist(), half.tolist()]) == pytest.approx(0.25 * math.log(4 / 3))


def test_prefixes_end_at_the_end_and_in_the_middle():
    assert probe_prefixes([[1, 2, 3], [4]]) == [[1, 2, 3], [1, 2], [4], [4]]
    assert len(probe_prefixes([[1]] * 20)) == 8


def test_another_vocabulary_is_refused():
    with pytest.raises(ExportError, match="the runtime has 3 tokens"):
        next_token_kl([torch.zeros(2)], [[0.0, 0.0, 0.0]])


def test_distributions_that_are_not_finite_are_refused():
    with pytest.raises(ExportError, match="not finite"):
        next_token_kl([torch.zeros(2)], [[math.nan, 0.0]])
