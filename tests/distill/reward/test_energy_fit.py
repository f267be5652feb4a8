"""What an energy head learns on data whose densities are known."""

import pytest
import torch

from distill.errors import DataError, TrainingError
from distill.reward.energy_fit import EnergyFitSettings, RewardScale, energy_loss, fit_energy_head
from distill.reward.energy_head import EnergyHead, EnergyHeadSettings
from distill.reward.refine import RefineSettings, ascend

SMALL = EnergyHeadSettings(reward_widths=(8, 16), joint_widths=(48, 24), dropout=0.0)
TRUE = torch.tensor([0.8, -0.6])
NOISE = 0.4


def linear_data(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States, and rewards drawn from N(w.e, .4^2)."""
    draws = torch.Generator().manual_seed(seed)
    states = torch.randn(num, 2, generator=draws)
    return states, states @ TRUE + NOISE * torch.randn(num, generator=draws)


@pytest.mark.usefixtures("shapes_unchecked")
def test_the_energy_finds_the_known_density():
    """Rewards from N(w.e, s^2), labels not jittered: the top of f is at w.e, and exp f has deviation s."""
    states, rewards = linear_data(600, 0)
    settings = EnergyFitSettings(
        head=SMALL,
        drops_conflicts=False,
        sigmas=(2.0,),
        label_noise=0.0,
        num_negatives=16,
        learning_rate=5e-3,
        batch_size=60,
        num_epochs=40,
        energy_penalty=1e-3,
    )
    fitted = fit_energy_head(states, rewards, settings, seed=0)
    assert fitted.last_loss < fitted.first_loss
    fresh, _ = linear_data(200, 1)
    fresh = fresh[fresh.abs().amax(1) < 2]

    def energy(candidates: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return fitted.head(fresh[which], candidates.unsqueeze(1)).squeeze(1)

    found = ascend(energy, torch.zeros(len(fresh)), RefineSettings())
    assert (found.energies >= found.first_energies).all()
    expected = fresh @ TRUE
    assert torch.corrcoef(torch.stack([found.rewards, expected]))[0, 1] > 0.97
    assert (found.rewards - expected).abs().mean() < 0.2
    grid = torch.linspace(-4, 4, 401)
    density = torch.softmax(fitted.head(fresh, grid.expand(len(fresh), -1)), dim=1).detach()
    means = density @ grid
    deviations = (density @ grid.square() - means.square()).sqrt()
    assert deviations.mean().item() == pytest.approx(NOISE, rel=0.25)


QUICK = EnergyFitSettings(head=SMALL, num_negatives=4, batch_size=4, num_epochs=2, learning_rate=1e-3)


def test_the_same_seed_gives_the_same_head_and_the_callers_draws_are_left_alone():
    states, rewards = linear_data(8, 0)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = fit_energy_head(states, rewards, QUICK.model_copy(update={"drops_conflicts": False}), seed=3)
    assert torch.equal(torch.rand(1), expected)
    again = fit_energy_head(states, rewards, QUICK.model_copy(update={"drops_conflicts": False}), seed=3)
    for name, value in first.head.state_dict().items():
        assert torch.equal(value, again.head.state_dict()[name])
    assert not first.head.training


def test_conflicting_pairs_are_left_out_and_counted():
    """Chosen rewards 3, 4, 1; rejected 0, 1, 2: the third pair conflicts. Kept: 3, 4, 0, 1, mean 2."""
    rewards = torch.tensor([3.0, 4.0, 1.0, 0.0, 1.0, 2.0])
    fitted = fit_energy_head(torch.randn(6, 2), rewards, QUICK.model_copy(update={"spread": 2.0}), seed=0)
    assert (fitted.num_pairs, fitted.num_kept) == (3, 2)
    assert fitted.scale.centre == pytest.approx(2.0)
    assert fitted.scale.inward(torch.tensor([3.0, 4.0, 0.0, 1.0])).std(correction=0).item() == pytest.approx(2.0)


def test_a_scale_goes_there_and_back():
    scale, rewards = RewardScale(-40.0, 0.5), torch.tensor([-41.0, -39.0])
    assert scale.inward(rewards).tolist() == [-2.0, 2.0]
    assert torch.equal(scale.outward(scale.inward(rewards)), rewards)


def test_too_few_kept_pairs_are_refused():
    with pytest.raises(DataError, match="1 of 2 pairs are left to fit an energy head on"):
        fit_energy_head(torch.randn(4, 2), torch.tensor([1.0, 0.0, 0.0, 1.0]), QUICK, seed=0)


def test_a_loss_that_is_not_finite_is_refused():
    states = torch.tensor([[torch.inf, 0.0]] * 4)
    with pytest.raises(TrainingError, match="the energy head's loss is nan"):
        fit_energy_head(states, torch.tensor([1.0, 2.0, 0.0, 0.0]), QUICK, seed=0)


def test_the_loss_has_one_value_an_answer_and_fresh_noise():
    states, rewards = linear_data(5, 0)
    head, draws = EnergyHead(2, SMALL).eval(), torch.Generator().manual_seed(0)
    first, second = (energy_loss(head, states, rewards, QUICK, generator=draws) for _ in range(2))
    assert first.shape == (5,)
    assert not torch.equal(first, second)
