import math

import pytest
import torch

from eval.distortion import angle_degrees, distortion, head_gradient


def test_distances_known_answer():
    """p = (1/2, 1/2), q = (1/4, 3/4): KL = 1/2 ln 2 + 1/2 ln 2/3 = 1/2 ln 4/3; total variation 1/4."""
    found = distortion(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log())
    assert found.kl_nats.item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-6)
    assert found.total_variation.item() == pytest.approx(0.25, rel=1e-6)
    assert not found.is_top_1_equal.item()


def test_a_token_only_the_stored_distribution_rules_out_makes_kl_infinite():
    found = distortion(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.0, -torch.inf]]))
    assert found.kl_nats.item() == math.inf
    assert found.total_variation.item() == pytest.approx(0.5)


def test_a_token_the_teacher_rules_out_adds_nothing():
    found = distortion(torch.tensor([[0.0, -torch.inf]]), torch.tensor([[0.5, 0.5]]).log())
    assert found.kl_nats.item() == pytest.approx(math.log(2), rel=1e-6)


def test_what_does_not_sum_to_one_is_normalised_first():
    teacher = torch.randn(3, 7)
    found = distortion(teacher, teacher + torch.tensor([[0.3], [-2.0], [5.0]]))
    torch.testing.assert_close(found.kl_nats, torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_head_gradient_is_autograds():
    torch.manual_seed(0)
    weight, states = torch.randn(5, 3, requires_grad=True), torch.randn(4, 3)
    stored = torch.randn(4, 5).log_softmax(-1)
    torch.nn.functional.cross_entropy(states @ weight.T, stored.exp(), reduction="sum").backward()
    found = head_gradient((states @ weight.detach().T).log_softmax(-1), stored, states)
    torch.testing.assert_close(found, weight.grad)


@pytest.mark.parametrize("degrees", [0.0, 0.001, 30.0, 90.0, 180.0])
def test_angles_are_told_at_any_size(degrees: float):
    turned = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], dtype=torch.float64)
    assert angle_degrees(torch.tensor([3.0, 0.0]), 7 * turned) == pytest.approx(degrees, abs=1e-9)
