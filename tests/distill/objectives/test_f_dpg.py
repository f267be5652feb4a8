"""f-DPG on a categorical model, where every expectation is a sum: gradients are those of the divergence, exactly."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill.errors import RecipeError
from distill.objectives.f_dpg import f_dpg_loss, f_dpg_weight, require_bearable_zeros
from distill.objectives.f_generators import GENERATORS, f_value
from tests.strategies import logits

EVERY = pytest.mark.parametrize("name", GENERATORS)
CONVERGED = 0.02


def divergence(policy_logits: Tensor, target: Tensor, name: str) -> Tensor:
    """E_p[f(policy / p)], the definition."""
    return (target.exp() * f_value(policy_logits.log_softmax(-1) - target, name)).sum()


def gradient(policy_logits: Tensor, target: Tensor, proposal: Tensor, name: str, *, baseline: float = 0.0) -> Tensor:
    """Of the f-DPG loss, its expectation under the proposal taken exactly."""
    policy_logits = policy_logits.clone().requires_grad_()
    policy = policy_logits.log_softmax(-1)
    loss = f_dpg_loss(policy, target, proposal, divergence=name, baseline=baseline)
    (found,) = torch.autograd.grad((proposal.exp() * loss).sum(), policy_logits)
    return found


@EVERY
@given(policy=logits(vocab=5).map(lambda x: x / 4), target=logits(vocab=5).map(lambda x: x / 4))
def test_the_gradient_is_that_of_the_divergence_by_finite_differences(name: str, policy: Tensor, target: Tensor):
    target = target.log_softmax(-1)
    step = 1e-5
    if name == "total_variation" and float((policy.log_softmax(-1) - target).abs().min()) < 1e-3:
        return  # at the kink no difference quotient is the slope
    moved = [policy + sign * step * one for one in torch.eye(5, dtype=policy.dtype) for sign in (1, -1)]
    values = torch.stack([divergence(logits_, target, name) for logits_ in moved]).view(5, 2)
    expected = (values[:, 0] - values[:, 1]) / (2 * step)
    found = gradient(policy, target, policy.log_softmax(-1), name)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@EVERY
@given(
    policy=logits(vocab=4).map(lambda x: x / 4),
    proposal=logits(vocab=4).map(lambda x: x / 4),
    baseline=st.floats(-3, 3),
)
def test_neither_the_proposal_nor_the_baseline_changes_the_expected_gradient(
    name: str, policy: Tensor, proposal: Tensor, baseline: float
):
    target = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).log()
    own = gradient(policy, target, policy.log_softmax(-1), name)
    other = gradient(policy, target, proposal.log_softmax(-1), name, baseline=baseline)
    torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-9)


@EVERY
def test_each_divergence_converges_to_a_toy_energy_based_model(name: str):
    """Twelve answers, P = base x exp(r / beta), its normaliser estimated: TV to P / Z below 0.02."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(12, generator=generator, dtype=torch.float64).log_softmax(-1)
    energies = base + torch.randn(12, generator=generator, dtype=torch.float64)
    target = energies - energies.logsumexp(0)
    policy_logits = base.clone().requires_grad_()
    optimizer = torch.optim.Adam([policy_logits], lr=0.03)
    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 0.03 * (1 - step / 400)
        policy = policy_logits.log_softmax(-1)
        drawn = torch.multinomial(policy.detach().exp(), 256, replacement=True, generator=generator)
        log_normaliser = (energies[drawn] - policy.detach()[drawn]).logsumexp(0) - math.log(256)
        scores = energies[drawn] - log_normaliser
        rewards = f_dpg_weight(policy[drawn], scores, policy[drawn], divergence=name)
        loss = f_dpg_loss(policy[drawn], scores, policy[drawn], divergence=name, baseline=float(rewards.mean()))
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    distance = 0.5 * (policy_logits.detach().softmax(-1) - target.exp()).abs().sum()
    assert float(distance) < CONVERGED


def test_an_answer_that_the_target_rules_out_is_pushed_down_where_the_divergence_bears_it():
    """jensen_shannon pays -log 2, off-policy times pi/q = 1/2: weight -(log 2) / 2."""
    half = torch.tensor([math.log(0.5)])
    found = f_dpg_weight(half + math.log(0.5), torch.tensor([-math.inf]), half, divergence="jensen_shannon")
    torch.testing.assert_close(found, torch.tensor([-0.5 * math.log(2)]))


@EVERY
def test_hard_constraints_are_refused_with_divergences_that_they_make_infinite(name: str):
    if name not in ("reverse_kl", "reverse_chi_squared"):
        require_bearable_zeros(name, constraint="lacks '!'")
        return
    with pytest.raises(RecipeError, match=f"{name} toward a target with the hard constraint lacks.*\n.*infinite"):
        require_bearable_zeros(name, constraint="lacks '!'")
