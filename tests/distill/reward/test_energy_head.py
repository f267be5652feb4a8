"""The network against its plain form."""

import torch
from torch import nn

from distill.reward.energy_head import EnergyHead, EnergyHeadSettings

SIZES = EnergyHeadSettings(reward_widths=(3, 4, 5), joint_widths=(7, 6))


def test_it_is_the_network_on_states_and_branch_side_by_side():
    """1-3-4-5 by tanh; [state, branch]-7-6 by tanh; then one number."""
    torch.manual_seed(0)
    head = EnergyHead(2, SIZES).eval()
    states, rewards = torch.randn(3, 2), torch.randn(3, 4)
    expected = torch.empty(3, 4)
    for row in range(3):
        for column in range(4):
            features = rewards[row, column].view(1)
            for layer in head.branch:
                features = torch.tanh(layer(features))
            features = torch.cat([states[row], features])
            for layer in head.joint:
                features = torch.tanh(layer(features))
            expected[row, column] = head.out(features)
    torch.testing.assert_close(head(states, rewards), expected)


def test_the_published_sizes_are_the_default():
    head = EnergyHead(512, EnergyHeadSettings())
    assert [layer.weight.shape for layer in head.modules() if isinstance(layer, nn.Linear)] == [
        (16, 1),
        (32, 16),
        (64, 32),
        (1024, 512 + 64),
        (512, 1024),
        (1, 512),
    ]
    assert head.settings.dropout == 0.5


def test_units_are_dropped_in_training_only():
    torch.manual_seed(0)
    head = EnergyHead(2, SIZES)
    states, rewards = torch.randn(3, 2), torch.randn(3, 4)
    assert not torch.equal(head(states, rewards), head(states, rewards))
    head.eval()
    assert torch.equal(head(states, rewards), head(states, rewards))


def test_states_are_standardised_and_constant_ones_left():
    head = EnergyHead(2, SIZES).eval()
    head.standardise(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
    assert head.centre.tolist() == [2.0, 7.0]
    assert head.deviation.tolist() == [1.0, 1.0]
    assert set(head.state_dict()) >= {"centre", "deviation"}
