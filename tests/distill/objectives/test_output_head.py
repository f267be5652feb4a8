import math

import pytest
import torch
from hypothesis import given

from distill.objectives import OutputHead, scaled_and_capped
from tests.strategies import tensors

WEIGHT = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
HIDDEN = torch.tensor([[3.0, 4.0]])


def test_plain_head_is_a_matrix_product():
    """h = (3, 4): rows (1,0), (0,2), (1,1) give 3, 8, 7."""
    torch.testing.assert_close(OutputHead(WEIGHT).logits(HIDDEN), torch.tensor([[3.0, 8.0, 7.0]]))


def test_bias_is_added_before_scale_and_soft_cap():
    """(3 + 1, 8 - 8, 7 + 0) = (4, 0, 7); times 1/2: (2, 0, 3.5); 2 tanh(x / 2): (2 tanh 1, 0, 2 tanh 1.75)."""
    head = OutputHead(WEIGHT, bias=torch.tensor([1.0, -8.0, 0.0]), logit_scale=0.5, soft_cap=2.0)
    expected = torch.tensor([[2 * math.tanh(1.0), 0.0, 2 * math.tanh(1.75)]])
    torch.testing.assert_close(head.logits(HIDDEN), expected)


def test_adjusted_is_what_logits_does_after_the_product():
    head = OutputHead(WEIGHT, bias=torch.ones(3), logit_scale=1.5, soft_cap=30.0)
    projected = torch.nn.functional.linear(HIDDEN, WEIGHT, torch.ones(3))
    torch.testing.assert_close(head.adjusted(projected), head.logits(HIDDEN), rtol=0, atol=0)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
def test_logits_are_computed_in_float32_whatever_is_stored(stored):
    """1 + 1/256 is exact in bfloat16's products only when they are added in float32."""
    weight, hidden = torch.tensor([[1.0, 1.0]]).to(stored), torch.tensor([[1.0, 1 / 256]]).to(stored)
    logits = OutputHead(weight).logits(hidden)
    assert logits.dtype == torch.float32
    assert logits.item() == 1 + 1 / 256


def test_float64_stays_float64():
    assert OutputHead(WEIGHT.double()).logits(HIDDEN.double()).dtype == torch.float64


def test_leading_axes_are_kept():
    assert OutputHead(WEIGHT).logits(torch.zeros(4, 5, 2)).shape == (4, 5, 3)


@given(tensors(2, 5, low=-1e3, high=1e3))
def test_soft_cap_bounds_logits_and_keeps_their_order(projected):
    capped = scaled_and_capped(projected, logit_scale=1.0, soft_cap=30.0)
    assert (capped.abs() <= 30.0).all()
    order = projected.argsort(-1)
    assert (capped.gather(-1, order).diff(dim=-1) >= 0).all()


def test_a_wide_soft_cap_changes_nothing():
    """c tanh(x / c) = x - x^3 / (3 c^2) + ...: at c = 1e6 and |x| <= 8 less than 2e-10 is missing."""
    projected = torch.linspace(-8, 8, 17, dtype=torch.float64)
    capped = scaled_and_capped(projected, logit_scale=1.0, soft_cap=1e6)
    torch.testing.assert_close(capped, projected, rtol=0, atol=2e-10)


def test_gradient_is_that_of_finite_differences():
    head = OutputHead(WEIGHT.double(), bias=torch.ones(3, dtype=torch.float64), logit_scale=0.7, soft_cap=5.0)
    hidden = torch.tensor([[0.3, -0.4], [2.0, 1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(head.logits, hidden)
