"""Estimates from weighted answers against sums over a whole categorical model."""

import math

import pytest
import torch
from hypothesis import given
from torch import Tensor

from distill.objectives import divergence
from distill.objectives.f_dpg_estimates import (
    entropy_terms,
    grouped_log_mean,
    jensen_shannon_to_target,
    kl_between,
    kl_from_target,
    total_variation_to_target,
)
from tests.strategies import logits, tensors

ESTIMATES = {
    "forward_kl": kl_from_target,
    "total_variation": total_variation_to_target,
    "jensen_shannon": jensen_shannon_to_target,
}


@pytest.mark.parametrize("name", ESTIMATES)
@given(target=logits(vocab=4), model=logits(vocab=4), proposal=logits(vocab=4))
def test_the_mean_under_any_proposal_is_the_divergence(name: str, target: Tensor, model: Tensor, proposal: Tensor):
    target, model, proposal = (x.log_softmax(-1) for x in (target, model, proposal))
    found = (proposal.exp() * ESTIMATES[name](target, model, proposal)).sum()
    torch.testing.assert_close(found, divergence(name, target, model), rtol=1e-7, atol=1e-8)


@given(target=logits(vocab=4), model=logits(vocab=4))
def test_every_term_of_the_kl_is_at_least_zero(target: Tensor, model: Tensor):
    target, model = target.log_softmax(-1), model.log_softmax(-1)
    assert bool((kl_from_target(target, model, model) >= -1e-9).all())
    torch.testing.assert_close(kl_between(target, model, model), kl_from_target(target, model, model))


def test_what_the_target_rules_out_adds_the_limits():
    """p = (1, 0), m = q = (1/2, 1/2): KL log 2, TV 1/2, JS = 1/2 log(4/3) + 1/4 log(2/3) + 1/4 log 2."""
    target, model = torch.tensor([0.0, -math.inf]), torch.tensor([0.5, 0.5]).log()
    assert float(kl_from_target(target, model, model).mean()) == pytest.approx(math.log(2))
    assert float(total_variation_to_target(target, model, model).mean()) == pytest.approx(0.5)
    expected = 0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3) + 0.25 * math.log(2)
    assert float(jensen_shannon_to_target(target, model, model).mean()) == pytest.approx(expected)


@given(weights=tensors(6, low=-600.0, high=600.0))
def test_the_normaliser_is_the_mean_weight_of_each_group(weights: Tensor):
    group = torch.tensor([0, 1, 0, 1, 1, 1])
    found = grouped_log_mean(weights, group, 2)
    for number, size in ((0, 2), (1, 4)):
        torch.testing.assert_close(found[number], weights[group == number].logsumexp(0) - math.log(size))


def test_the_normaliser_of_a_group_that_is_ruled_out_is_nothing():
    found = grouped_log_mean(torch.tensor([-math.inf, -math.inf, 0.0]), torch.tensor([0, 0, 1]), 2)
    torch.testing.assert_close(found, torch.tensor([-math.inf, 0.0]))


@given(policy=logits(vocab=4), proposal=logits(vocab=4))
def test_entropy_is_estimated_under_any_proposal(policy: Tensor, proposal: Tensor):
    policy, proposal = policy.log_softmax(-1), proposal.log_softmax(-1)
    found = (proposal.exp() * entropy_terms(policy, proposal)).sum()
    torch.testing.assert_close(found, -(policy.exp() * policy).sum(), rtol=1e-7, atol=1e-9)
