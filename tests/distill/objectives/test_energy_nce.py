"""NCE+ by hand, its gradient, and the density it is minimised by."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.objectives.energy_nce import draw_candidates, nce_plus_loss, noise_log_density

CANDIDATES = torch.tensor([[1.2, -2.0, 4.0]], dtype=torch.float64)
CENTRE = torch.tensor([1.0], dtype=torch.float64)
ENERGIES = -((CANDIDATES - 1.5) ** 2)


def test_the_vector_of_one_component():
    """sigma 3.5, r = 1, f = -(y - 1.5)^2: f = (-.09, -12.25, -6.25); .05 (.0081 + 150.0625 + 39.0625)/3 = 3.152218."""
    noise = noise_log_density(CANDIDATES, CENTRE, sigmas=(3.5,))
    contrast = nce_plus_loss(ENERGIES, noise, energy_penalty=0.0)
    assert contrast.item() == pytest.approx(0.003048, abs=5e-7)
    assert (nce_plus_loss(ENERGIES, noise) - contrast).item() == pytest.approx(3.152218, abs=5e-7)


def test_the_noise_is_a_normal_density():
    """At its centre 1/(sigma sqrt(2 pi)); of two components, their mean."""
    one = noise_log_density(CENTRE.unsqueeze(0), CENTRE, sigmas=(3.5,))
    assert one.item() == pytest.approx(-math.log(3.5 * math.sqrt(2 * math.pi)))
    two = noise_log_density(CENTRE.unsqueeze(0), CENTRE, sigmas=(1.0, 0.5))
    assert two.exp().item() == pytest.approx((1 + 2) / 2 / math.sqrt(2 * math.pi))


def test_large_scores_do_not_overflow():
    """s_0 = 800 would be infinite as log(exp(s_0)) in float32."""
    loss = nce_plus_loss(torch.tensor([[800.0, 0.0]]), torch.zeros(1, 2), energy_penalty=0.0)
    assert loss.item() == 0.0
    assert nce_plus_loss(torch.tensor([[0.0, 800.0]]), torch.zeros(1, 2), energy_penalty=0.0).item() == 800.0


@given(shift=st.floats(-5, 5))
def test_without_the_penalty_only_differences_of_energies_count(shift):
    noise = noise_log_density(CANDIDATES, CENTRE, sigmas=(3.5,))
    moved = nce_plus_loss(ENERGIES + shift, noise, energy_penalty=0.0)
    torch.testing.assert_close(moved, nce_plus_loss(ENERGIES, noise, energy_penalty=0.0))


def test_the_gradient_by_finite_differences_and_none_through_the_noise():
    energies = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    noise = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: nce_plus_loss(f, noise), (energies,))
    nce_plus_loss(energies, noise).sum().backward()
    assert noise.grad is None


def test_the_true_log_density_is_where_the_gradient_vanishes():
    """Of labels from N(r, s^2) and f = log N(y; m, s^2): the mean slope by m is 0 at m = r, and points there."""
    draws, sigma, width = torch.Generator().manual_seed(0), 2.0, 0.5
    rewards = torch.zeros(4000, dtype=torch.float64)
    kept = {"num_negatives": 8, "sigmas": (sigma,), "label_noise": width / sigma, "generator": draws}
    candidates = draw_candidates(rewards, **kept)
    noise = noise_log_density(candidates, rewards, sigmas=(sigma,))
    slopes = []
    for centre in (-0.2, 0.0, 0.2):
        mode = torch.tensor(centre, dtype=torch.float64, requires_grad=True)
        energies = -0.5 * ((candidates - mode) / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))
        nce_plus_loss(energies, noise, energy_penalty=0.0).mean().backward()
        slopes.append(mode.grad.item())
    assert slopes[0] < -0.1
    assert abs(slopes[1]) < 0.06
    assert slopes[2] > 0.1


def test_the_label_is_narrow_and_the_negatives_are_wide():
    rewards = torch.full((4000,), 3.0, dtype=torch.float64)
    drawn = draw_candidates(
        rewards, num_negatives=4, sigmas=(2.0,), label_noise=0.1, generator=torch.Generator().manual_seed(0)
    )
    assert drawn.shape == (4000, 5)
    assert drawn[:, 0].std().item() == pytest.approx(0.2, rel=0.05)
    assert drawn[:, 1:].std().item() == pytest.approx(2.0, rel=0.05)
    assert drawn.mean().item() == pytest.approx(3.0, abs=0.05)


def test_without_label_noise_the_label_is_the_reward():
    rewards = torch.tensor([1.0, -2.0])
    drawn = draw_candidates(rewards, num_negatives=1, sigmas=(1.0, 3.0), label_noise=0.0, generator=torch.Generator())
    assert torch.equal(drawn[:, 0], rewards)
