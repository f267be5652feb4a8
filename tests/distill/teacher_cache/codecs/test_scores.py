import pytest
import torch

from distill.numerics import token_log_probs
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.rows import EncodedRows, as_bytes
from tests.distill.teacher_cache.codecs.examples import codec_for, encoded, some_head, some_states


def test_known_log_probs_of_a_uniform_head():
    """A head of zeros gives each of 4 tokens the log-prob -ln 4, whatever the hidden state."""
    head = OutputHead(torch.zeros(4, 2))
    codec = codec_for(head, codec="scores")
    targets = torch.tensor([0, 1, 3])
    found = codec.token_log_probs(encoded(codec, torch.randn(3, 2), head, target_ids=targets), targets, head=None)
    torch.testing.assert_close(found, torch.full((3,), -torch.tensor(4.0).log().item()))


def test_scores_are_those_of_a_float64_softmax_to_a_millionth():
    head, states = some_head(scale=2.0), some_states(40)
    codec = codec_for(head, codec="scores")
    targets = torch.arange(40)
    found = codec.token_log_probs(encoded(codec, states, head, target_ids=targets), targets, head=None)
    expected = token_log_probs(head.logits(states).double(), targets)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_scores_survive_logits_of_a_thousand():
    head = OutputHead(torch.tensor([[1000.0], [-1000.0]]))
    codec = codec_for(head, codec="scores")
    targets = torch.tensor([0, 1])
    found = codec.token_log_probs(encoded(codec, torch.ones(2, 1), head, target_ids=targets), targets, head=None)
    assert found.tolist() == [0.0, -2000.0]


def test_a_token_takes_four_bytes():
    assert codec_for(some_head(), codec="scores").row_bytes == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 0.5])
def test_numbers_that_are_no_log_prob_are_named(value):
    rows = EncodedRows(as_bytes(torch.tensor([[-1.0], [value]])))
    assert "log-prob of token 1 is" in codec_for(some_head(), codec="scores").check(rows)
