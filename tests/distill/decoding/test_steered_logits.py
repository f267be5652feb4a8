import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from distill.decoding.sampling import SamplingSettings, kept_logits
from distill.decoding.steered_logits import (
    FIRST_LOOK,
    ROUNDING_NATS,
    amplified_logits,
    budgeted_logits,
    nucleus,
    steepest_step,
)
from tests.strategies import logits

Z_IN = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
Z_OUT = torch.tensor([[1.0, 1.5, 0.0]], dtype=torch.float64)
RATIOS = st.floats(0.0, 6.0)


def test_the_known_answer_of_ratio_two():
    """z* = (2,1,0) + 2 (1,-0.5,0) = (4,0,0); e^4 / (e^4 + 2) = 0.964663."""
    found = amplified_logits(Z_IN, Z_OUT, ratio=2.0)
    assert found.tolist() == [[4.0, 0.0, 0.0]]
    expected = torch.tensor([[0.964663, 0.017668, 0.017668]], dtype=torch.float64)
    torch.testing.assert_close(found.softmax(-1), expected, atol=5e-7, rtol=0)


def test_the_known_nucleus():
    """softmax(2,1,0) = (.665241, .244728, .090031): before the second stand .665 < .8, before the third .91."""
    expected = torch.tensor([[0.665241, 0.244728, 0.090031]], dtype=torch.float64)
    torch.testing.assert_close(Z_IN.softmax(-1), expected, atol=5e-7, rtol=0)
    assert nucleus(Z_IN, top_p=0.8).tolist() == [[True, True, False]]
    assert nucleus(Z_IN, top_p=0.66).tolist() == [[True, False, False]]
    assert nucleus(Z_IN, top_p=1.0).all()


@given(principled=logits(2), plain=logits(2), ratio=RATIOS)
def test_amplified_is_the_product_of_powers(principled, plain, ratio):
    """pi* ~ pi_in^(1+r) pi_out^(-r), so constants added to either row do not matter."""
    powers = (1 + ratio) * principled.log_softmax(-1) - ratio * plain.log_softmax(-1)
    found = amplified_logits(principled + 3.0, plain - 5.0, ratio=ratio).log_softmax(-1)
    torch.testing.assert_close(found, powers.log_softmax(-1), atol=1e-9, rtol=0)


@given(same=logits(1), ratio=RATIOS)
def test_a_principle_that_changes_nothing_steers_nowhere(same, ratio):
    assert torch.equal(amplified_logits(same, same, ratio=ratio), same)
    everywhere = torch.ones_like(same, dtype=torch.bool)
    assert torch.equal(budgeted_logits(same, same, within=everywhere, budget=ratio), same)


@given(principled=logits(1), plain=logits(1))
def test_no_ratio_and_no_budget_leave_the_principled_logits(principled, plain):
    everywhere = torch.ones_like(principled, dtype=torch.bool)
    assert torch.equal(amplified_logits(principled, plain, ratio=0.0), principled)
    assert torch.equal(budgeted_logits(principled, plain, within=everywhere, budget=0.0), principled)


def test_a_token_that_cannot_be_said_stays_so():
    ruled_out = torch.tensor([[-torch.inf, 1.0]])
    assert amplified_logits(ruled_out, ruled_out, ratio=2.0).tolist() == [[-math.inf, 1.0]]


def test_the_step_of_order_two_is_the_direction_at_length_epsilon():
    """g = (3, -4), |g| = 5: D = (0.6, -0.8) eps."""
    found = steepest_step(torch.tensor([3.0, -4.0], dtype=torch.float64), budget=2.0)
    torch.testing.assert_close(found, torch.tensor([1.2, -1.6], dtype=torch.float64))


def test_the_step_of_order_three():
    """q = 3/2: D = sign(g) |g|^(1/2) / (|g|_q^q)^(1/3) = (1, -2) / 9^(1/3) for g = (1, -4), as 1 + 8 = 9."""
    found = steepest_step(torch.tensor([1.0, -4.0], dtype=torch.float64), budget=1.0, order=3.0)
    torch.testing.assert_close(found, torch.tensor([1.0, -2.0], dtype=torch.float64) / 9 ** (1 / 3))


@given(direction=logits(), other=logits(), order=st.sampled_from([1.5, 2.0, 3.0, 8.0]), budget=st.floats(0.1, 5.0))
def test_the_step_spends_the_budget_and_no_other_gains_more(direction, other, order, budget):
    """Hoelder: <g, D> = eps |g|_q, and <g, D'> <= eps |g|_q for every D' of the budget."""
    assume(bool(direction.abs().max() > 1e-3) and bool(other.abs().max() > 1e-3))
    step = steepest_step(direction, budget=budget, order=order)
    dual = order / (order - 1)
    best = budget * torch.linalg.vector_norm(direction, dual)
    torch.testing.assert_close(torch.linalg.vector_norm(step, order), torch.tensor(budget, dtype=torch.float64))
    torch.testing.assert_close((direction * step).sum(), best)
    rival = other / torch.linalg.vector_norm(other, order) * budget
    assert (direction * rival).sum() <= best + 1e-9


def test_a_direction_of_zeros_gives_no_step():
    assert steepest_step(torch.zeros(2, 4), budget=3.0).tolist() == [[0.0] * 4] * 2


def test_a_budget_is_not_spent_on_rounding():
    """Two contexts that say the same differ by the last bits; scaled up, these would choose the tokens."""
    row = torch.tensor([[1.0, 1.0 + 1e-6, 0.0]])
    everywhere = torch.ones_like(row, dtype=torch.bool)
    assert torch.equal(budgeted_logits(row, torch.tensor([[1.0 + 1e-6, 1.0, 0.0]]), within=everywhere, budget=5.0), row)


def test_a_direction_of_tiny_entries_does_not_vanish():
    """1e-30 to the power of q would be zero in float32."""
    found = steepest_step(torch.tensor([3e-30, 4e-30]), budget=1.0, order=1.5)
    torch.testing.assert_close(found, steepest_step(torch.tensor([3.0, 4.0]), budget=1.0, order=1.5))


@given(principled=logits(3), plain=logits(3), top_p=st.floats(0.1, 0.99))
def test_the_budget_is_spent_inside_the_nucleus_whatever_constants_are_added(principled, plain, top_p):
    within = nucleus(principled, top_p=top_p)
    change = (principled.log_softmax(-1) - plain.log_softmax(-1)).abs()
    assume(not bool(((change > ROUNDING_NATS / 10) & (change < 1e-3)).any()))
    found = budgeted_logits(principled, plain, within=within, budget=1.5, order=2.0)
    assert torch.equal(found[~within], principled[~within])
    shifted = budgeted_logits(principled + 2.0, plain - 1.0, within=within, budget=1.5, order=2.0) - 2.0
    torch.testing.assert_close(found, shifted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("spread", [0.0, 0.02, 1.0, 6.0])
@pytest.mark.parametrize("top_p", [0.05, 0.8, 0.99])
def test_the_nucleus_is_that_of_a_full_stable_sort(spread: float, top_p: float):
    """Flat rows (spread 0: all tied) need more tokens than the first look has, peaked ones fewer."""
    generator = torch.Generator().manual_seed(1)
    rows = (spread * torch.randn(20, 3 * FIRST_LOOK, generator=generator)).mul(2).round().div(2)
    expected = ~torch.isinf(kept_logits(rows, settings=SamplingSettings(top_p=top_p)))
    assert torch.equal(nucleus(rows, top_p=top_p), expected)
    assert nucleus(rows, top_p=top_p).any(-1).all()
