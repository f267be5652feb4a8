import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import DataError, TrainingError
from distill.reward import RewardFitSettings, bradley_terry_loss, fit_reward_model, pair_accuracy
from distill.reward.reward_model import conversations_of


def test_one_pair_known_answer():
    """w = 1, d = ln 3: -log sigmoid(ln 3) = ln 4/3; with l2 = 0.5, 0.25 more. Slope: -ln 3 / 4 + 0.5."""
    loss, gradient = bradley_terry_loss(np.array([1.0]), np.array([[math.log(3)]]), l2=0.5)
    assert loss == pytest.approx(math.log(4 / 3) + 0.25, abs=1e-12)
    assert gradient[0] == pytest.approx(-math.log(3) / 4 + 0.5, abs=1e-12)


@given(seed=st.integers(0, 10_000), l2=st.sampled_from([0.0, 0.01, 1.0]))
def test_the_gradient_is_that_of_autograd_in_float64(seed, l2):
    draw = np.random.default_rng(seed)
    weight, differences = draw.normal(size=5), draw.normal(size=(7, 5)) * 3
    loss, gradient = bradley_terry_loss(weight, differences, l2=l2)
    theirs = torch.tensor(weight, requires_grad=True)
    expected = -torch.nn.functional.logsigmoid(torch.tensor(differences) @ theirs).mean() + l2 / 2 * theirs @ theirs
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-10, atol=1e-12)


def test_large_margins_neither_overflow_nor_lose_the_slope():
    loss, gradient = bradley_terry_loss(np.array([1.0]), np.array([[-2000.0], [2000.0]]), l2=0.0)
    assert loss == pytest.approx(1000.0)
    assert gradient[0] == pytest.approx(1000.0)


def test_the_fit_prefers_what_the_pairs_prefer(body, pairs):
    fitted = fit_reward_model(body, pairs, RewardFitSettings(l2=1e-4))
    assert fitted.num_pairs == len(pairs)
    assert fitted.accuracy == pair_accuracy(fitted.model, pairs) == 1.0
    assert 0 < fitted.loss < math.log(2)


def test_the_fit_is_the_minimum(body, pairs):
    """At the minimum on the model's own states the slope, folded back to the scaled states, is zero."""
    fitted = fit_reward_model(body, pairs, RewardFitSettings(l2=0.1))
    states = fitted.model.embeddings(conversations_of(pairs)).double().numpy()
    deviations = states.std(axis=0)
    differences = (states[: len(pairs)] - states[len(pairs) :]) / deviations
    weight = fitted.model.loaded.model.score.weight[0].detach().double().numpy() * deviations
    _, gradient = bradley_terry_loss(weight, differences, l2=0.1)
    assert np.abs(gradient).max() < 1e-4


def test_the_body_stays_as_it_was(body, pairs):
    before = {name: value.clone() for name, value in body.model.state_dict().items()}
    fit_reward_model(body, pairs)
    assert all(torch.equal(before[name], value) for name, value in body.model.state_dict().items())


def test_the_fit_is_calibrated_on_its_pairs(body, pairs):
    model = fit_reward_model(body, pairs).model
    rewards = model.score(conversations_of(pairs)).double()
    assert model.calibration.mean == pytest.approx(rewards.mean().item())
    assert model.calibration.scale == pytest.approx(rewards.std(correction=0).item())
    assert model.calibration.num_pairs == len(pairs)


def test_without_pairs_there_is_no_fit(body):
    with pytest.raises(DataError, match="no pairs to fit a reward model on"):
        fit_reward_model(body, [])


def test_answers_that_no_state_tells_apart_are_refused(body, pairs, same_answers):
    with pytest.raises(DataError, match="have the same last state"):
        fit_reward_model(body, same_answers)


def test_a_fit_that_does_not_end_is_refused(body, pairs):
    with pytest.raises(TrainingError, match="did not converge in 1 iterations"):
        fit_reward_model(body, pairs, RewardFitSettings(max_iterations=1))
