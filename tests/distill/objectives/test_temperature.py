import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.numerics import log_softmax
from distill.objectives import divergence
from distill.objectives.temperature import at_scale, softened
from tests.strategies import logits


def test_softened_known_answer():
    """Probabilities (1/5, 4/5) at T = 2 are in proportion to their roots, 1 : 2."""
    log_probs = torch.tensor([0.2, 0.8], dtype=torch.float64).log()
    expected = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64).log()
    torch.testing.assert_close(softened(log_probs, temperature=2.0), expected)


@given(logits(2), st.floats(0.2, 5.0))
def test_softened_log_probs_are_those_of_the_softened_logits(values, temperature):
    torch.testing.assert_close(
        softened(log_softmax(values), temperature=temperature), log_softmax(values / temperature)
    )


def test_temperature_one_changes_not_a_bit():
    log_probs = log_softmax(torch.randn(3, 5, generator=torch.manual_seed(2)))
    assert torch.equal(softened(log_probs, temperature=1.0), log_probs)
    assert torch.equal(at_scale(log_probs, temperature=1.0), log_probs)


def test_values_are_scaled_by_the_square():
    torch.testing.assert_close(at_scale(torch.tensor([1.0, 2.0]), temperature=3.0), torch.tensor([9.0, 18.0]))


def test_the_scaled_gradient_at_a_high_temperature_is_that_of_the_logits_difference():
    """T^2 d/dz_S KL -> (z_S - z_T) / V for logits of mean zero, as T grows (Hinton et al. 2015, eq. 4)."""
    teacher, student = torch.randn(2, 6, dtype=torch.float64, generator=torch.manual_seed(3))
    teacher, student = teacher - teacher.mean(), (student - student.mean()).requires_grad_()
    soft = [softened(log_softmax(z), temperature=1e4) for z in (teacher, student)]
    at_scale(divergence("forward_kl", *soft), temperature=1e4).backward()
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / 6, rtol=1e-3, atol=1e-5)
