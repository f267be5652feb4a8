import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from distill.numerics import log_softmax, masked_sum, segment_sum, token_log_probs, widened
from tests import references
from tests.strategies import logits, tensors


def test_log_softmax_known_answer():
    """Logits (0, ln 3): e^0 + e^(ln 3) = 4, so the log-probs are -ln 4 and ln 3/4."""
    expected = torch.tensor([-math.log(4), math.log(3 / 4)])
    torch.testing.assert_close(log_softmax(torch.tensor([0.0, math.log(3)])), expected)


@given(logits(3))
def test_log_softmax_agrees_with_the_reference(values):
    expected = torch.tensor([references.log_softmax(row) for row in values.tolist()], dtype=torch.float64)
    torch.testing.assert_close(log_softmax(values), expected)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_logits_are_widened_before_the_softmax(stored):
    values = torch.randn(4, 7, generator=torch.manual_seed(0)).to(stored)
    assert log_softmax(values).dtype == torch.float32
    torch.testing.assert_close(log_softmax(values), torch.log_softmax(values.float(), -1), rtol=0, atol=0)


def test_float64_stays_float64():
    values = torch.zeros(2, dtype=torch.float64)
    assert widened(values) is values
    assert log_softmax(values).dtype == torch.float64


def test_token_log_probs_known_answer():
    """Three equal logits give each token 1/3; the last row gives token 1 the odds 3 : 1."""
    rows = torch.tensor([[5.0, 5.0, 5.0], [-math.inf, math.log(3), 0.0]])
    expected = torch.tensor([-math.log(3), math.log(3 / 4)])
    torch.testing.assert_close(token_log_probs(rows, torch.tensor([2, 1])), expected)


@given(logits(2, 3), st.lists(st.integers(0, 4), min_size=6, max_size=6))
def test_token_log_probs_pick_from_log_softmax(values, targets):
    target_ids = torch.tensor(targets).reshape(2, 3)
    expected = log_softmax(values).gather(-1, target_ids[..., None])[..., 0]
    torch.testing.assert_close(token_log_probs(values, target_ids), expected)


def test_token_log_probs_gradient_is_that_of_finite_differences():
    values = torch.randn(3, 4, dtype=torch.float64, generator=torch.manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: token_log_probs(x, torch.tensor([0, 3, 1])), values)


@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf, 1e30])
def test_masked_sum_ignores_what_stands_under_the_mask(rubbish):
    """Row 0 counts 1 + 2, row 1 counts nothing: 3 and 0."""
    values = torch.tensor([[1.0, 2.0, rubbish], [rubbish, rubbish, rubbish]], requires_grad=True)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    sums = masked_sum(values, mask)
    sums.sum().backward()
    torch.testing.assert_close(sums, torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(values.grad, mask.float())


def test_masked_sum_of_bfloat16_is_added_in_float32():
    """In bfloat16 256 + 1 is 256 again, so 300 ones would stop growing there."""
    ones = torch.ones(1, 300, dtype=torch.bfloat16)
    assert masked_sum(ones, torch.ones(1, 300, dtype=torch.bool)).item() == 300.0


def test_segment_sum_known_answer():
    """Segment 0 holds 1 and 4, segment 1 nothing, segment 2 holds 2."""
    sums = segment_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 0]), 3)
    torch.testing.assert_close(sums, torch.tensor([5.0, 0.0, 2.0]))


def test_segment_sum_of_a_long_answer_is_as_exact_as_its_dtype():
    """300 times -10.37 is near -3,111, where float32 steps by 2^-12: the sum is off by half a step at most."""
    values = torch.full((300,), -10.37)
    (found,) = segment_sum(values, torch.zeros(300, dtype=torch.int64), 1).tolist()
    assert abs(found - 300 * values[0].item()) <= 2**-13


@given(tensors(6), st.permutations(range(6)))
def test_segment_sum_does_not_depend_on_the_order(values, order):
    segment = torch.tensor([0, 0, 1, 1, 1, 2])
    shuffled = torch.tensor(order)
    torch.testing.assert_close(segment_sum(values[shuffled], segment[shuffled], 3), segment_sum(values, segment, 3))


def test_the_import_hook_refuses_shapes_that_disagree():
    with pytest.raises(TypeCheckError, match="masked_sum"):
        masked_sum(torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool))
