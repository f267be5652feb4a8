import copy

import pytest
import torch
from torch import nn

from distill.models.lending import is_plain, lending_weights, without_memory


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3)).eval()


IDS = torch.tensor([0, 3])


def test_a_network_without_memory_computes_with_what_it_is_lent(network):
    expected, weights = network(IDS), dict(copy.deepcopy(network).named_parameters())
    without_memory(network)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    with lending_weights(network, lambda name, _: weights[name]):
        assert torch.equal(network(IDS), expected)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}


def test_half_precision_is_widened_for_a_modules_own_forward_only(network):
    expected = copy.deepcopy(network).to(torch.bfloat16).float()(IDS)
    network.to(torch.bfloat16)
    held = []

    def widened(name, weight):
        held.append(sum(parameter.dtype == torch.float32 for parameter in network.parameters()))
        return weight.float()

    with lending_weights(network, widened):
        assert torch.equal(network(IDS), expected)
    assert max(held) == 1  # the layer's own weight while its bias is lent
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}


def test_what_was_lent_is_taken_back_after_an_error(network):
    own = network[0].weight
    with lending_weights(network, lambda name, weight: weight * 2), pytest.raises(IndexError):
        network(torch.tensor([9]))
    assert network[0].weight is own


def test_packed_weights_stay(network):
    packed = nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    assert not is_plain(packed)
    network.packed = nn.Module()
    network.packed.weight = packed
    without_memory(network.packed)
    assert network.packed.weight is packed
