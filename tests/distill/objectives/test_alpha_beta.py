import math

import pytest
import torch
from hypothesis import given

from distill.errors import RecipeError
from distill.numerics import log_softmax
from distill.objectives import divergence
from distill.objectives.alpha_beta import alpha_beta
from tests.strategies import logits

P = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
INF = math.inf


@given(teacher=logits(2), student=logits(2))
def test_the_corners_are_the_two_kl(teacher, student):
    p, q = log_softmax(teacher), log_softmax(student)
    torch.testing.assert_close(alpha_beta(p, q, alpha=1.0, beta=0.0), divergence("forward_kl", p, q))
    torch.testing.assert_close(alpha_beta(p, q, alpha=0.0, beta=1.0), divergence("reverse_kl", p, q))


@given(teacher=logits(2), student=logits(2))
def test_the_middle_is_twice_the_squared_distance_of_square_roots(teacher, student):
    expected = 2.0 * (teacher.softmax(-1).sqrt() - student.softmax(-1).sqrt()).square().sum(-1)
    torch.testing.assert_close(alpha_beta(log_softmax(teacher), log_softmax(student)), expected)


@given(teacher=logits(2), student=logits(2))
def test_the_origin_is_half_the_squared_distance_of_log_probs(teacher, student):
    p, q = log_softmax(teacher), log_softmax(student)
    torch.testing.assert_close(alpha_beta(p, q, alpha=0.0, beta=0.0), 0.5 * (q - p).square().sum(-1))


@pytest.mark.parametrize("alpha", [0.8, -0.8])
def test_opposite_powers_known_answer(alpha):
    """As s -> 0: sum of ((p/q)^a - 1 - a log(p/q)) / a^2, the limit that Cichocki et al. give."""
    ratio = (P - Q).exp()
    expected = (ratio**alpha - 1 - alpha * ratio.log()).sum() / alpha**2
    torch.testing.assert_close(alpha_beta(P, Q, alpha=alpha, beta=-alpha), expected)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (0.8, -0.8), (-0.8, 0.8), (0.3, 0.0), (0.0, -0.6)])
@pytest.mark.parametrize("step", [1e-7, -1e-7])
def test_limits_are_met_from_both_sides(alpha, beta, step):
    at = alpha_beta(P, Q, alpha=alpha, beta=beta)
    torch.testing.assert_close(alpha_beta(P, Q, alpha=alpha, beta=beta + step), at, rtol=1e-5, atol=0)
    torch.testing.assert_close(alpha_beta(P, Q, alpha=alpha + step, beta=beta), at, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.7, -0.7), (-0.2, 0.9), (1.0, 1.0)])
def test_gradient_is_that_of_finite_differences(alpha, beta):
    generator = torch.manual_seed(6)
    teacher = torch.randn(2, 4, dtype=torch.float64, generator=generator)
    student = torch.randn(2, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: alpha_beta(log_softmax(teacher), log_softmax(x), alpha=alpha, beta=beta), student
    )


@pytest.mark.parametrize(
    ("alpha", "beta", "teacher_rules_out", "student_rules_out"),
    [
        (0.5, 0.5, 2.0, 2.0),
        (1.0, 0.0, 1.0, INF),
        (0.0, 1.0, INF, 1.0),
        (1.0, 1.0, 0.5, 0.5),
        (2.0, -1.0, 0.5, INF),
        (1.0, -1.0, INF, INF),
        (0.0, 0.0, INF, INF),
    ],
)
def test_a_token_that_one_side_rules_out_gives_the_limit(alpha, beta, teacher_rules_out, student_rules_out):
    """A single token with p = 0, q = 1 gives 1 / (alpha s) where alpha and s are positive, else +inf; mirrored for q.

    (1, 0): p log(p/q) - p + q = q = 1 at p = 0. Only one term is looked at, so nothing here is normalised.
    """
    possible, impossible = torch.zeros(1, dtype=torch.float64), torch.full((1,), -INF, dtype=torch.float64)
    assert alpha_beta(impossible, possible, alpha=alpha, beta=beta).item() == teacher_rules_out
    assert alpha_beta(possible, impossible, alpha=alpha, beta=beta).item() == student_rules_out


@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_power_must_be_finite(name, value):
    with pytest.raises(RecipeError, match=f"alpha_beta: {name} is {value}\nwhy: a power is a finite number"):
        alpha_beta(P, Q, **{name: value})


@pytest.mark.parametrize(("alpha", "beta"), [(1e-8, 1e-8), (1e-5, -1e-6), (-3e-4, 2e-4), (9e-4, 9e-4)])
def test_small_powers_are_not_lost_in_float32(alpha, beta):
    """The definition in float64, and below 1e-5 the limit: the two differ by a share of some (alpha d)."""
    s, log_ratio = alpha + beta, Q - P
    halves = torch.expm1(beta * log_ratio) / beta - torch.expm1(s * log_ratio) / s
    is_limit = max(abs(alpha), abs(beta)) < 1e-5
    exact = 0.5 * log_ratio.square().sum() if is_limit else -((s * P).exp() * halves / alpha).sum()
    found = alpha_beta(P.float(), Q.float(), alpha=alpha, beta=beta)
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=0)
