"""Targets as products, and the coefficients of a tilt, against cases worked out by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill.errors import RecipeError
from distill.objectives.dadpo import dadpo_loss
from distill.objectives.energy_targets import between, constrained, fit_tilt, rewarded, tilted
from tests.strategies import pair_log_probs, tensors


def test_rewarded_maximises_reward_less_the_kl_to_the_base():
    """a = (1/2, 1/2), r = (log 2, 0), beta = 1/2: P = (2, 1/2), p = (4/5, 1/5)."""
    target = rewarded(torch.tensor([0.5, 0.5]).log(), torch.tensor([math.log(2), 0.0]), beta=0.5).softmax(-1)
    torch.testing.assert_close(target, torch.tensor([0.8, 0.2]))


def test_constrained_leaves_the_base_in_proportion():
    """a = (1/2, 1/3, 1/6) without the first: (2/3, 1/3)."""
    base = torch.tensor([1 / 2, 1 / 3, 1 / 6]).log()
    found = constrained(base, torch.tensor([False, True, True]))
    torch.testing.assert_close(found.softmax(-1), torch.tensor([0.0, 2 / 3, 1 / 3]))


def test_fit_tilt_known_answer():
    """One feature that 1 of 5 answers has; half is wanted: 1/5 e^l = 4/5, so l = log 4."""
    features = torch.tensor([[1.0], [0.0], [0.0], [0.0], [0.0]])
    found = fit_tilt(torch.zeros(5), features, torch.tensor([0.5]))
    torch.testing.assert_close(found.coefficients, torch.tensor([math.log(4)], dtype=torch.float64), atol=1e-5, rtol=0)
    # Weights 4, 1, 1, 1, 1: (8^2 / 20) / 5.
    assert found.effective_share == pytest.approx(0.64, abs=1e-5)
    assert float(tilted(torch.zeros(5), features, found.coefficients).softmax(-1)[0]) == pytest.approx(0.5, abs=1e-6)


@given(
    features=tensors(12, 2, low=-2.0, high=2.0),
    log_weights=tensors(12, low=-300.0, high=300.0).map(lambda x: x / 100),
    wanted=tensors(2, low=-1.0, high=1.0),
)
def test_fit_tilt_recovers_the_moments_of_a_tilt(features: Tensor, log_weights: Tensor, wanted: Tensor):
    """The moments that some coefficients make are reached again, over three prompts of four answers each."""
    from distill.objectives.energy_targets import tilted_moments

    features = features + torch.arange(24, dtype=torch.float64).reshape(12, 2).sin()
    group = torch.arange(3).repeat_interleave(4)
    moments = tilted_moments(log_weights, features, group, wanted)[0]
    found = fit_tilt(log_weights, features, moments, group=group)
    torch.testing.assert_close(found.moments, moments, atol=1e-6, rtol=0)


@given(scale=st.floats(-700, 700))
def test_fit_tilt_works_with_logs_of_weights_of_any_size(scale: float):
    features = torch.tensor([[1.0], [0.0], [0.0]])
    found = fit_tilt(torch.full((3,), scale, dtype=torch.float64), features, torch.tensor([0.6]))
    assert float(found.coefficients) == pytest.approx(math.log(3), abs=1e-4)


@pytest.mark.parametrize("wanted", [1.0, 1.2, 0.0])
def test_a_moment_that_no_weighting_reaches_is_refused(wanted: float):
    with pytest.raises(RecipeError, match=r"reaches from 0 to 1.*\n.*infinite weights"):
        fit_tilt(torch.zeros(3), torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([wanted]))


def test_prompts_whose_answers_are_all_alike_bound_what_can_be_reached():
    """Two prompts; the first has the feature in no answer: at most 1/2 on average."""
    features = torch.tensor([[0.0], [0.0], [1.0], [0.0]])
    with pytest.raises(RecipeError, match=r"reaches from 0 to 0\.5"):
        fit_tilt(torch.zeros(4), features, torch.tensor([0.7]), group=torch.tensor([0, 0, 1, 1]))


@given(terms=pair_log_probs(4, batch=2), rewards=tensors(2, low=-3.0, high=3.0), beta=st.floats(0.01, 1.0))
def test_dadpo_margin_is_the_log_ratio_to_its_target(terms: list[Tensor], rewards: Tensor, beta: float):
    r"""M = (b1 + b2) (D log pi - D log P) + D r: of the policy that is the target, M is the difference of rewards."""
    reference, teacher = terms[0], terms[1]
    target = between(reference, teacher, beta_reference=beta, beta_teacher=0.3)
    optimum = rewarded(target, rewards, beta=beta + 0.3)
    loss = dadpo_loss(
        optimum[:1], optimum[1:], reference[:1], reference[1:], teacher[:1], teacher[1:],
        beta_reference=beta, beta_teacher=0.3,
    )  # fmt: skip
    expected = torch.nn.functional.softplus(-(rewards[:1] - rewards[1:]))
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-8)


def test_a_model_of_weight_zero_is_not_read():
    found = between(torch.tensor([-1.0]), torch.tensor([math.nan]), beta_reference=0.2, beta_teacher=0.0)
    torch.testing.assert_close(found, torch.tensor([-1.0]))


@pytest.mark.parametrize("betas", [(0.0, 0.0), (-0.1, 0.5), (math.inf, 0.1)])
def test_betas_without_a_mean_are_refused(betas: tuple[float, float]):
    with pytest.raises(RecipeError, match="their sum positive"):
        between(torch.zeros(1), torch.zeros(1), beta_reference=betas[0], beta_teacher=betas[1])


def test_beta_zero_is_refused():
    with pytest.raises(RecipeError, match="beta is 0.0"):
        rewarded(torch.zeros(1), torch.zeros(1), beta=0.0)
