"""The ascent by hand, and what it never does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.reward.refine import RefineSettings, ascend, start_rewards


def parabola(rewards: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    return -((rewards - 1.5) ** 2)


def waves(rewards: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Many hills, and slopes of very different size."""
    return torch.sin(3 * rewards) - 0.1 * rewards**2 + which * torch.cos(7 * rewards)


def test_the_vector_of_the_parabola():
    """From 0 the slope is 3: 0 + .5 * 3 = 1.5, the top; then six halvings by ten bring .5 below 1e-6."""
    found = ascend(parabola, torch.zeros(1, dtype=torch.float64), RefineSettings())
    assert found.rewards.item() == 1.5
    assert (found.num_accepted.item(), found.num_steps) == (1, 7)
    assert (found.first_energies.item(), found.energies.item()) == (-2.25, 0.0)


@given(starts=st.lists(st.floats(-4, 4), min_size=1, max_size=6), steps=st.integers(0, 12))
def test_the_energy_never_falls(starts, steps):
    """After any number of steps it is at least what one step fewer had; every answer by itself."""
    start = torch.tensor(starts, dtype=torch.float64)
    before = ascend(waves, start, RefineSettings(max_steps=steps))
    after = ascend(waves, start, RefineSettings(max_steps=steps + 1))
    assert (after.energies >= before.energies).all()
    assert (before.energies >= before.first_energies).all()
    torch.testing.assert_close(before.energies, waves(before.rewards, torch.arange(len(start))))


def test_an_answer_does_not_depend_on_its_neighbours():
    start = torch.tensor([-3.0, 0.3, 2.0], dtype=torch.float64)
    alone = [ascend(lambda r, w, i=i: waves(r, w + i), start[i : i + 1], RefineSettings()).rewards for i in range(3)]
    torch.testing.assert_close(ascend(waves, start, RefineSettings()).rewards, torch.cat(alone))


def test_what_is_not_finite_is_never_reached():
    def cliff(rewards: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return torch.where(rewards < 1.0, rewards, torch.nan)

    found = ascend(cliff, torch.zeros(1), RefineSettings())
    assert 0.99 < found.rewards.item() < 1.0


def test_no_steps_leave_the_start():
    start = torch.tensor([0.5, -1.0])
    assert torch.equal(ascend(parabola, start, RefineSettings(max_steps=0)).rewards, start)


def test_trusted_rewards_are_the_start_and_others_are_drawn():
    base = torch.tensor([-2.0, 0.0, 2.0, 2.1, -70.0, 5.0])
    found = start_rewards(base, RefineSettings(), seeds=range(6))
    assert torch.equal(found[:3], base[:3])
    assert (found[3:].abs() <= 4).all()
    assert len(set(found[3:].tolist())) == 3
    assert torch.equal(found, start_rewards(base, RefineSettings(), seeds=range(6)))


def test_clamping_takes_the_nearest_trusted_reward():
    found = start_rewards(torch.tensor([-9.0, 1.0, 2.5]), RefineSettings(start="clamp"), seeds=[0, 0, 0])
    assert found.tolist() == [-2.0, 1.0, 2.0]


def test_a_decay_of_one_is_refused():
    with pytest.raises(ValueError, match="decay"):
        RefineSettings(decay=1.0)
