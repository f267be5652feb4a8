import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RecipeError
from distill.objectives import f_dpo_reward
from tests import references
from tests.strategies import tensors

NAMES = ["reverse_kl", "forward_kl", "jensen_shannon", "alpha"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("reverse_kl", math.log(4)), ("forward_kl", 0.75), ("jensen_shannon", math.log(8 / 5)), ("alpha", 1.0)],
)
def test_reward_known_answer(name, expected):
    """u = 4: ln 4; 1 - 1/4; ln 8/5; (1 - 4^-1/2) / (1/2) = 1."""
    reward = f_dpo_reward(torch.tensor([math.log(4)], dtype=torch.float64), name, alpha=0.5)
    torch.testing.assert_close(reward, torch.tensor([expected], dtype=torch.float64))


@pytest.mark.parametrize("name", NAMES)
@given(tensors(4, low=-30.0, high=30.0), st.floats(0.05, 0.95))
def test_reward_agrees_with_the_reference(name, log_ratio, alpha):
    expected = [references.f_dpo_reward(x, name, alpha=alpha) for x in log_ratio.tolist()]
    reward = f_dpo_reward(log_ratio, name, alpha=alpha)
    torch.testing.assert_close(reward, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@given(tensors(6, low=-20.0, high=20.0))
def test_reward_grows_with_the_ratio_and_is_zero_at_one(name, log_ratio):
    """A generator is convex, so its derivative does not fall."""
    assert (f_dpo_reward(log_ratio.sort().values, name).diff() >= 0).all()
    assert f_dpo_reward(torch.zeros(1), name).abs().item() < 1e-7


@pytest.mark.parametrize(("name", "ceiling"), [("forward_kl", 1.0), ("jensen_shannon", math.log(2)), ("alpha", 4.0)])
def test_all_but_reverse_kl_have_a_ceiling(name, ceiling):
    reward = f_dpo_reward(torch.tensor([500.0], dtype=torch.float64), name, alpha=0.25)
    torch.testing.assert_close(reward, torch.tensor([ceiling], dtype=torch.float64))


@given(tensors(4, low=-5.0, high=5.0))
def test_alpha_lies_between_the_two_kls(log_ratio):
    near_reverse, near_forward = (f_dpo_reward(log_ratio, "alpha", alpha=a) for a in (1e-7, 1 - 1e-7))
    torch.testing.assert_close(near_reverse, log_ratio, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(near_forward, f_dpo_reward(log_ratio, "forward_kl"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["forward_kl", "alpha"])
def test_an_answer_that_is_all_but_ruled_out_stays_finite_in_float32(name):
    log_ratio = torch.tensor([-1e4], requires_grad=True)
    reward = f_dpo_reward(log_ratio, name)
    reward.sum().backward()
    assert reward.isfinite().all()
    assert log_ratio.grad.item() == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_finite_differences(name):
    log_ratio = torch.randn(5, dtype=torch.float64, generator=torch.manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: f_dpo_reward(x, name, alpha=0.3), log_ratio)


def test_another_divergence_is_refused():
    with pytest.raises(RecipeError, match="divergence 'chi_squared' is not one of f-DPO's\nfix: known: reverse_kl"):
        f_dpo_reward(torch.zeros(1), "chi_squared")


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_an_alpha_out_of_range_is_refused(alpha):
    with pytest.raises(RecipeError, match="alpha is .*\nwhy: alpha-divergences of f-DPO lie between the two KLs"):
        f_dpo_reward(torch.zeros(1), "alpha", alpha=alpha)
