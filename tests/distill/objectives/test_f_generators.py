"""Pseudo-rewards and generators against published numbers, their own slopes, and each other."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill.errors import RecipeError
from distill.objectives.f_generators import GENERATORS, f_generator, f_value, pseudo_reward
from tests.strategies import tensors

EVERY = pytest.mark.parametrize("name", GENERATORS)

# -f'(t) at log t = -1, 0, 1, derived in double precision.
VECTORS = {
    "forward_kl": (2.718282, 1.0, 0.367879),
    "reverse_kl": (0.0, -1.0, -2.0),
    "jensen_shannon": (0.620115, 0.0, -0.379885),
    "total_variation": (0.5, 0.0, -0.5),
    "chi_squared": (6.389056, 0.0, -0.864665),
    "reverse_chi_squared": (1.264241, 0.0, -3.436564),
    "alpha": (0.648721, 0.0, -0.393469),
}


@EVERY
def test_pseudo_reward_known_answers(name: str):
    found = pseudo_reward(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64), name)
    torch.testing.assert_close(found, torch.tensor(VECTORS[name], dtype=torch.float64), atol=5e-7, rtol=0)


@EVERY
@given(log_t=tensors(6, low=-4.0, high=4.0), alpha=st.floats(0.1, 0.9))
def test_pseudo_reward_is_the_generators_slope_with_its_sign_turned(name: str, log_t: Tensor, alpha: float):
    """df/dt = (df/dlog t) / t; at t = 1 the total variation has a kink, where the slope is any of [-1/2, 1/2]."""
    log_t = torch.where(log_t.abs() < 1e-3, 0.5, log_t).requires_grad_()
    (slope,) = torch.autograd.grad(f_value(log_t, name, alpha=alpha).sum(), log_t)
    expected = -slope / log_t.detach().exp()
    torch.testing.assert_close(pseudo_reward(log_t, name, alpha=alpha), expected, rtol=1e-7, atol=1e-9)


@EVERY
@given(log_t=tensors(4, low=-6.0, high=6.0))
def test_generators_are_zero_at_one_and_pay_less_the_likelier_the_answer_is(name: str, log_t: Tensor):
    assert float(f_value(torch.zeros(1, dtype=torch.float64), name)) == pytest.approx(0.0, abs=1e-12)
    rewards = pseudo_reward(log_t.sort().values, name)
    assert bool((rewards.diff() <= 1e-12).all())


@pytest.mark.parametrize(
    ("name", "at_zero"),
    [
        ("forward_kl", 0.0),
        ("jensen_shannon", -math.log(2)),
        ("total_variation", -0.5),
        ("chi_squared", -1.0),
        ("alpha", -1.0),
        ("reverse_kl", -math.inf),
        ("reverse_chi_squared", -math.inf),
    ],
)
def test_what_the_target_rules_out_is_paid_the_limit(name: str, at_zero: float):
    assert float(pseudo_reward(torch.tensor([math.inf]), name)) == pytest.approx(at_zero)
    assert f_generator(name).bears_zeros == math.isfinite(at_zero)


@EVERY
def test_rewards_stay_finite_where_the_policy_gives_an_answer_next_to_nothing(name: str):
    assert bool(pseudo_reward(torch.tensor([-1e4, -300.0, 300.0]), name).isfinite().all())


@given(log_t=tensors(5, low=-3.0, high=3.0))
def test_alpha_meets_both_kls_at_its_ends(log_t: Tensor):
    """a -> 0: 1/t - 1, forward KL less a constant; a -> 1, over 1 - a: -log t, reverse KL plus a constant."""
    torch.testing.assert_close(
        pseudo_reward(log_t, "alpha", alpha=1e-9), pseudo_reward(log_t, "forward_kl") - 1.0, rtol=1e-6, atol=1e-6
    )
    near_one = pseudo_reward(log_t, "alpha", alpha=1 - 1e-7) / 1e-7
    torch.testing.assert_close(near_one, pseudo_reward(log_t, "reverse_kl") + 1.0, rtol=1e-5, atol=1e-5)


def test_a_reward_is_cut_from_above_alone():
    found = pseudo_reward(torch.tensor([-9.0, 9.0]), "reverse_kl", max_reward=3.0)
    torch.testing.assert_close(found, torch.tensor([3.0, -10.0]))


def test_rewards_carry_no_gradient():
    log_t = torch.zeros(2, requires_grad=True)
    assert not pseudo_reward(log_t, "jensen_shannon").requires_grad


@pytest.mark.parametrize(
    ("name", "alpha", "message"),
    [
        ("jensen", 0.5, "did you mean jensen_shannon"),
        ("none", 0.5, "known: forward_kl"),
        ("alpha", 1.0, "alpha is 1.0"),
    ],
)
def test_unknown_divergences_are_refused(name: str, alpha: float, message: str):
    with pytest.raises(RecipeError, match=message):
        f_value(torch.zeros(1), name, alpha=alpha)
