import math

import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

from distill.errors import RecipeError
from distill.numerics import log_softmax
from distill.objectives import DIVERGENCES, divergence
from distill.objectives.divergences import named_divergence
from tests import references
from tests.strategies import logits

P = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()

CASES = [
    ("forward_kl", {}),
    ("reverse_kl", {}),
    ("jensen_shannon", {}),
    ("jensen_shannon", {"beta": 0.1}),
    ("jensen_shannon", {"beta": 0.9}),
    ("total_variation", {}),
    ("chi_squared", {}),
    ("reverse_chi_squared", {}),
    ("skew_kl", {}),
    ("skew_kl", {"alpha": 0.6}),
    ("skew_reverse_kl", {}),
    ("skew_reverse_kl", {"alpha": 0.6}),
    ("alpha_beta", {}),
    ("alpha_beta", {"alpha": 0.2, "beta": 0.7}),
    ("alpha_beta", {"alpha": 1.5, "beta": -0.5}),
]
every_divergence = pytest.mark.parametrize(("name", "parameters"), CASES)


def test_the_table_holds_every_name_and_all_are_tested():
    assert {name for name, _ in CASES} == set(DIVERGENCES)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("forward_kl", {}, 0.085123),
        ("reverse_kl", {}, 0.092033),
        ("jensen_shannon", {"beta": 0.1}, 0.007695),
        ("jensen_shannon", {"beta": 0.5}, 0.021901),
        ("jensen_shannon", {}, 0.021901),
        ("jensen_shannon", {"beta": 0.9}, 0.008185),
        ("skew_kl", {}, 0.069578),
        ("skew_reverse_kl", {}, 0.072828),
        ("alpha_beta", {"alpha": 0.5, "beta": 0.5}, 0.088087),
        ("alpha_beta", {"alpha": 0.2, "beta": 0.7}, 0.102591),
        ("total_variation", {}, 0.2),
        ("chi_squared", {}, 0.163333),
        ("reverse_chi_squared", {}, 0.207143),
    ],
)
def test_divergences_meet_the_test_vectors(name, parameters, expected):
    """p = (.7, .2, .1), q = (.5, .3, .2), by the definitions, for instance

    forward_kl .7 ln 7/5 + .2 ln 2/3 + .1 ln 1/2; chi_squared .04/.5 + .01/.3 + .01/.2 = .49/3.
    """
    assert divergence(name, P, Q, **parameters).item() == pytest.approx(expected, abs=1e-6)


def test_forward_kl_known_answer():
    """p = (1/2, 1/2), q = (1/4, 3/4): 1/2 ln 2 + 1/2 ln 2/3 = 1/2 ln 4/3."""
    p = torch.tensor([[[0.5, 0.5]]]).log()
    q = torch.tensor([[[0.25, 0.75]]]).log()
    torch.testing.assert_close(divergence("forward_kl", p, q), torch.tensor([[0.5 * math.log(4 / 3)]]))


def test_jensen_shannon_of_disjoint_distributions_is_log_two():
    """m = (1/2, 1/2): each KL is ln 2."""
    p, q = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log()
    torch.testing.assert_close(divergence("jensen_shannon", p, q), torch.tensor(math.log(2)))


def test_skew_divergences_of_disjoint_distributions_are_minus_log_alpha():
    """KL(p || .1 p + .9 q) = 1 ln 1/.1."""
    p, q = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.0, 1.0]).log()
    for name in ("skew_kl", "skew_reverse_kl"):
        torch.testing.assert_close(divergence(name, p, q), torch.tensor(math.log(10)))


@every_divergence
@given(teacher=logits(2), student=logits(2))
def test_divergences_agree_with_the_reference(name, parameters, teacher, student):
    expected = [
        references.divergence(name, p, q, **parameters)
        for p, q in zip(teacher.softmax(-1).tolist(), student.softmax(-1).tolist(), strict=True)
    ]
    values = divergence(name, log_softmax(teacher), log_softmax(student), **parameters)
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-9)


@every_divergence
@given(teacher=logits(), student=logits())
def test_float32_agrees_with_float64(name, parameters, teacher, student):
    wide = divergence(name, log_softmax(teacher), log_softmax(student), **parameters)
    narrow = divergence(name, log_softmax(teacher).float(), log_softmax(student).float(), **parameters)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-4, atol=1e-6)


@every_divergence
@given(teacher=logits(2), student=logits(2))
def test_divergences_are_not_negative_and_zero_of_equals(name, parameters, teacher, student):
    assert (divergence(name, log_softmax(teacher), log_softmax(student), **parameters) > -1e-12).all()
    zero = divergence(name, log_softmax(teacher), log_softmax(teacher), **parameters)
    torch.testing.assert_close(zero, torch.zeros_like(zero), rtol=0, atol=1e-12)


@given(teacher=logits(), student=logits())
def test_bounded_divergences_keep_their_bounds(teacher, student):
    p, q = log_softmax(teacher), log_softmax(student)
    assert divergence("total_variation", p, q) <= 1.0 + 1e-12
    assert divergence("jensen_shannon", p, q) <= math.log(2) + 1e-12
    assert divergence("skew_kl", p, q) <= -math.log(0.1) + 1e-12
    assert divergence("skew_reverse_kl", p, q) <= -math.log(0.1) + 1e-12


@pytest.mark.parametrize(
    ("name", "parameters", "swapped_name", "swapped_parameters"),
    [
        ("forward_kl", {}, "reverse_kl", {}),
        ("chi_squared", {}, "reverse_chi_squared", {}),
        ("skew_kl", {"alpha": 0.3}, "skew_reverse_kl", {"alpha": 0.3}),
        ("jensen_shannon", {"beta": 0.3}, "jensen_shannon", {"beta": 0.7}),
        ("alpha_beta", {"alpha": 0.2, "beta": 0.7}, "alpha_beta", {"alpha": 0.7, "beta": 0.2}),
        ("total_variation", {}, "total_variation", {}),
    ],
)
@given(teacher=logits(), student=logits())
def test_exchanging_teacher_and_student_gives_the_reverse(
    name, parameters, swapped_name, swapped_parameters, teacher, student
):
    p, q = log_softmax(teacher), log_softmax(student)
    torch.testing.assert_close(
        divergence(name, p, q, **parameters), divergence(swapped_name, q, p, **swapped_parameters)
    )


@given(teacher=logits(2), student=logits(2))
def test_the_ends_of_mixtures_are_plain_kl(teacher, student):
    p, q = log_softmax(teacher), log_softmax(student)
    forward, reverse = divergence("forward_kl", p, q), divergence("reverse_kl", p, q)
    assert torch.equal(divergence("skew_kl", p, q, alpha=0.0), forward)
    assert torch.equal(divergence("skew_reverse_kl", p, q, alpha=0.0), reverse)
    assert torch.equal(divergence("jensen_shannon", p, q, beta=0.0), forward)
    assert torch.equal(divergence("jensen_shannon", p, q, beta=1.0), reverse)


def test_jensen_shannon_falls_to_zero_in_proportion_to_beta():
    """beta KL(p || m) -> beta KL(p || q) as beta -> 0, while (1 - beta) KL(q || m) is of second order."""
    small = divergence("jensen_shannon", P, Q, beta=1e-6) / 1e-6
    torch.testing.assert_close(small, divergence("forward_kl", P, Q), rtol=1e-5, atol=0)


@given(teacher=logits(2), student=logits(2))
def test_forward_kl_gradient_is_student_minus_teacher(teacher, student):
    student.requires_grad_()
    divergence("forward_kl", log_softmax(teacher), log_softmax(student)).sum().backward()
    torch.testing.assert_close(student.grad, student.detach().softmax(-1) - teacher.softmax(-1))


@every_divergence
def test_gradient_is_that_of_finite_differences(name, parameters):
    generator = torch.manual_seed(5)
    teacher = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    student = torch.randn(3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: divergence(name, log_softmax(teacher), log_softmax(x), **parameters), student
    )


@every_divergence
def test_the_teacher_carries_no_gradient(name, parameters):
    teacher, student = P.clone().requires_grad_(), Q.clone().requires_grad_()
    divergence(name, teacher, student, **parameters).backward()
    assert teacher.grad is None
    assert student.grad is not None


@every_divergence
@given(teacher=logits(2, vocab=3), student=logits(2, vocab=3))
def test_tokens_that_both_rule_out_change_nothing(name, parameters, teacher, student):
    """A padded vocabulary: two log-probs of -inf in front and at the end.

    Where two probabilities are equal but for rounding, total variation has no one gradient to compare.
    """
    assume(name != "total_variation" or ((teacher.softmax(-1) - student.softmax(-1)).abs() > 1e-9).all())
    plain, plain_gradient = value_and_gradient(name, log_softmax(teacher), student, parameters)
    padding = torch.full((2, 2), -torch.inf, dtype=torch.float64)
    padded = [torch.cat([padding, x, padding], dim=-1) for x in (teacher, student)]
    value, gradient = value_and_gradient(name, log_softmax(padded[0]), padded[1], parameters)
    torch.testing.assert_close(value, plain)
    assert (gradient[:, [0, 1, -2, -1]] == 0).all()
    tied = (teacher.softmax(-1) - student.softmax(-1)).abs() < 1e-9
    if name == "total_variation" and tied.any():  # equal up to rounding, and rounding chooses the subgradient
        return
    torch.testing.assert_close(gradient[:, 2:-2], plain_gradient)


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("forward_kl", {}, math.log(2)),
        ("jensen_shannon", {}, 0.5 * (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2))),
        ("total_variation", {}, 0.5),
        ("chi_squared", {}, 1.0),
        ("skew_kl", {}, math.log(1 / 0.55)),
        ("skew_reverse_kl", {}, 0.5 * math.log(0.5 / 0.95) + 0.5 * math.log(10)),
        ("alpha_beta", {}, 4.0 - 2.0 * math.sqrt(2)),
    ],
)
def test_a_token_that_the_teacher_rules_out_has_its_limit_and_a_finite_gradient(name, parameters, expected):
    """p = (1, 0), q = (1/2, 1/2).

    forward_kl 1 ln 2. jensen_shannon, m = (3/4, 1/4): half of ln 4/3 + (1/2 ln 2/3 + 1/2 ln 2). total_variation
    1/2 (1/2 + 1/2). chi_squared (1/4) / (1/2) + (1/4) / (1/2). skew_kl, m = (.55, .45): ln 1/.55. skew_reverse_kl,
    m = (.95, .05): 1/2 ln .5/.95 + 1/2 ln .5/.05. alpha_beta 2 ((1 - sqrt 1/2)^2 + 1/2) = 4 - 2 sqrt 2.
    """
    teacher = torch.tensor([1.0, 0.0], dtype=torch.float64).log()
    value, gradient = value_and_gradient(name, teacher, torch.zeros(2, dtype=torch.float64), parameters)
    assert value.item() == pytest.approx(expected)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient.sum(), torch.tensor(0.0, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["reverse_kl", "reverse_chi_squared"])
def test_reverse_divergences_are_infinite_where_the_teacher_rules_out(name):
    teacher = torch.tensor([1.0, 0.0]).log()
    assert divergence(name, teacher, torch.tensor([0.5, 0.5]).log()).item() == math.inf


@pytest.mark.parametrize("name", ["forward_kl", "chi_squared"])
def test_forward_divergences_are_infinite_where_the_student_rules_out(name):
    student = torch.tensor([1.0, 0.0]).log()
    assert divergence(name, torch.tensor([0.5, 0.5]).log(), student).item() == math.inf


@pytest.mark.parametrize("name", ["reverse_kl", "jensen_shannon", "total_variation", "skew_kl", "skew_reverse_kl"])
def test_a_token_that_the_student_rules_out_gives_no_nan(name):
    student = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
    value, gradient = value_and_gradient(name, torch.zeros(2, dtype=torch.float64).log_softmax(-1), student, {})
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "skew_kl", "skew_reverse_kl", "jensen_shannon"])
def test_what_float32_cannot_tell_from_zero_meets_what_is_ruled_out(name):
    """One side gives e^-200, which is 0 in float32, the other exactly nothing: 0 times an infinite log, either way."""
    faint = torch.tensor([0.0, -200.0])
    nothing = torch.tensor([0.0, -torch.inf])
    for teacher, student in ((faint, nothing), (nothing, faint)):
        student = student.clone().requires_grad_()
        value = divergence(name, teacher, student)
        assert value.item() == pytest.approx(0.0, abs=1e-7)
        value.backward()
        assert student.grad is not None
        assert student.grad.isfinite().all()


def test_chi_squared_of_far_apart_log_probs_does_not_overflow_early():
    """p = e^-60 and q = e^-160 at one token: p^2 / q = e^40, though p / q = e^100 is beyond float32."""
    rest = -1e-26
    p, q = torch.tensor([rest, -60.0]), torch.tensor([rest, -160.0])
    assert divergence("chi_squared", p, q).item() == pytest.approx(math.exp(40), rel=1e-4)


def test_leading_axes_are_kept_and_positions_do_not_mix():
    p, q = P.expand(2, 4, 3).clone(), Q.expand(2, 4, 3).clone()
    q[1, 2] = P
    values = divergence("forward_kl", p, q)
    assert values.shape == (2, 4)
    assert values[1, 2] == 0.0
    assert (values != 0).sum() == 7


def test_narrow_log_probs_are_widened():
    assert divergence("forward_kl", P.bfloat16(), Q.half()).dtype == torch.float32


def test_unknown_divergence_names_the_nearest():
    with pytest.raises(RecipeError, match="divergence 'foward_kl' is not known\nfix: did you mean forward_kl"):
        divergence("foward_kl", P, Q)


def test_a_name_like_no_other_lists_all():
    with pytest.raises(RecipeError, match="'zzz' is not known\nfix: known: forward_kl, reverse_kl, jensen_shannon"):
        divergence("zzz", P, Q)


@pytest.mark.parametrize(
    ("name", "parameter", "message"),
    [
        ("jensen_shannon", "betta", "jensen_shannon has no parameter 'betta'\nfix: did you mean beta"),
        ("skew_kl", "beta", "skew_kl has no parameter 'beta'\nfix: "),
        ("forward_kl", "beta", "forward_kl has no parameter 'beta'\nfix: leave beta out"),
    ],
)
def test_unknown_parameter_is_refused(name, parameter, message):
    with pytest.raises(RecipeError, match=message):
        divergence(name, P, Q, **{parameter: 0.5})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("jensen_shannon", {"beta": -0.1}),
        ("jensen_shannon", {"beta": 1.1}),
        ("skew_kl", {"alpha": 1.0}),
        ("skew_kl", {"alpha": math.nan}),
        ("skew_reverse_kl", {"alpha": -0.1}),
    ],
)
def test_a_share_out_of_range_is_refused_before_any_tensor_is_seen(name, parameters):
    ((parameter, value),) = parameters.items()
    with pytest.raises(RecipeError, match=f"{name}: {parameter} is {value}\nwhy: a share of a mixture is"):
        named_divergence(name, **parameters)


def value_and_gradient(name: str, teacher_log_probs: Tensor, student: Tensor, parameters: dict[str, float]):
    student = student.clone().requires_grad_()
    value = divergence(name, teacher_log_probs, log_softmax(student), **parameters)
    value.sum().backward()
    return value.detach(), student.grad
