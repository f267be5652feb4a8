import pytest
import torch

from distill.teacher_cache.codecs.head_products import log_probs_of, not_finite, token_log_probs_of
from tests.distill.teacher_cache.codecs.examples import some_head, some_states


@pytest.mark.parametrize("max_logits", [1, 150, 400, 10**6])
def test_log_probs_do_not_depend_on_how_the_head_product_is_cut(max_logits):
    head, states, targets = some_head(scale=0.5, soft_cap=10.0), some_states(7), torch.arange(7)
    cut = token_log_probs_of(states, targets, head=head, max_logits=max_logits)
    torch.testing.assert_close(cut, log_probs_of(states, head=head).gather(-1, targets.unsqueeze(-1))[:, 0])


def test_the_first_token_with_a_number_that_is_not_finite_is_named():
    values = torch.zeros(4, 2)
    values[2, 1] = torch.inf
    assert not_finite("step", values) == "the step of token 2 is not finite"
    assert not_finite("step", values[:2]) is None
