import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RecipeError
from distill.numerics import log_softmax
from distill.objectives import KdSettings, TokenDivergenceSettings, TokenTerms, divergence, pair_token_divergence
from distill.objectives.token_divergence import answer_tokens, given_parameters, require_parameters
from distill.settings import validated
from tests.strategies import logits

PAIR_INDEX = torch.tensor([0, 0, 1, 1, 0])
IS_CHOSEN = torch.tensor([True, False, True, False, False])


def known_terms() -> TokenTerms:
    """Teacher certain of token 0; the student gives it 1/2, 1/4, 1/8, 1/16, 1/32: KL of 1 to 5 times ln 2."""
    share = 0.5 ** torch.arange(1, 6, dtype=torch.float64)
    student = torch.stack([share, 1 - share], dim=-1).log()
    teacher = torch.tensor([[1.0, 0.0]], dtype=torch.float64).log().expand(5, 2)
    return TokenTerms(teacher, student, PAIR_INDEX, IS_CHOSEN)


@pytest.mark.parametrize(
    ("on", "expected"),
    [("both", [(1 + 2 + 5) / 3, (3 + 4) / 2]), ("chosen", [1.0, 3.0]), ("rejected", [(2 + 5) / 2, 4.0])],
)
def test_each_pair_gets_the_mean_over_its_own_tokens(on, expected):
    """Tokens 0, 1, 4 are pair 0's (the first of them chosen), tokens 2, 3 pair 1's; in units of ln 2."""
    values = pair_token_divergence(known_terms(), "forward_kl", parameters={}, num_pairs=2, on=on)
    torch.testing.assert_close(values / math.log(2), torch.tensor(expected, dtype=torch.float64))


def test_a_pair_without_tokens_that_count_gives_zero():
    values = pair_token_divergence(known_terms(), "forward_kl", parameters={}, num_pairs=3)
    assert values[2] == 0.0


@given(teacher=logits(5), student=logits(5), order=st.permutations(range(5)))
def test_the_order_of_tokens_does_not_matter(teacher, student, order):
    p, q = log_softmax(teacher), log_softmax(student)
    i = torch.tensor(order)
    values = pair_token_divergence(TokenTerms(p, q, PAIR_INDEX, IS_CHOSEN), "skew_kl", parameters={}, num_pairs=2)
    shuffled = pair_token_divergence(
        TokenTerms(p[i], q[i], PAIR_INDEX[i], IS_CHOSEN[i]), "skew_kl", parameters={}, num_pairs=2
    )
    torch.testing.assert_close(shuffled, values)


def test_parameters_reach_the_divergence():
    terms = known_terms()
    values = pair_token_divergence(terms, "skew_kl", parameters={"alpha": 0.4}, num_pairs=2, on="chosen")
    alone = divergence("skew_kl", terms.teacher_log_probs, terms.student_log_probs, alpha=0.4)
    torch.testing.assert_close(values, alone[[0, 2]])


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jensen_shannon", "chi_squared", "alpha_beta"])
@pytest.mark.parametrize("on", ["chosen", "rejected"])
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf])
def test_what_stands_at_tokens_that_do_not_count_changes_nothing(name, on, rubbish):
    generator = torch.manual_seed(7)
    teacher, clean = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator).log_softmax(-1)
    counted = answer_tokens(IS_CHOSEN, on)
    results = []
    for filling in (0.0, rubbish):
        student = torch.where(counted[:, None], clean, filling).requires_grad_()
        terms = TokenTerms(torch.where(counted[:, None], teacher, filling), student, PAIR_INDEX, IS_CHOSEN)
        values = pair_token_divergence(terms, name, parameters={}, num_pairs=2, on=on)
        values.sum().backward()
        results.append((values.detach(), student.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert (results[1][1][~counted] == 0).all()


def test_gradient_is_that_of_finite_differences():
    generator = torch.manual_seed(8)
    teacher = torch.randn(5, 4, dtype=torch.float64, generator=generator).log_softmax(-1)
    student = torch.randn(5, 4, dtype=torch.float64, generator=generator, requires_grad=True)

    def of_student(x: torch.Tensor) -> torch.Tensor:
        terms = TokenTerms(teacher, log_softmax(x), PAIR_INDEX, IS_CHOSEN)
        return pair_token_divergence(terms, "jensen_shannon", parameters={"beta": 0.3}, num_pairs=2, on="rejected")

    assert torch.autograd.gradcheck(of_student, student)


def test_answer_tokens_known_answer():
    is_chosen = torch.tensor([True, False])
    assert answer_tokens(is_chosen, "both").tolist() == [True, True]
    assert answer_tokens(is_chosen, "chosen").tolist() == [True, False]
    assert answer_tokens(is_chosen, "rejected").tolist() == [False, True]


def test_given_parameters_leaves_out_none():
    assert given_parameters(alpha=0.0, beta=None) == {"alpha": 0.0}


def test_require_parameters_tells_pydantic_what_is_wrong():
    with pytest.raises(ValueError, match=r"^divergence skew_kl has no parameter 'beta' \("):
        require_parameters("skew_kl", {"beta": 0.5})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "forward_lk", "weight": 1}, r"name is 'forward_lk'.*\(did you mean forward_kl\?\)"),
        ({"name": "forward_kl"}, "weight is missing"),
        ({"name": "forward_kl", "weight": 0}, r"weight is 0.*must be positive"),
        ({"name": "forward_kl", "weight": 1, "alpha": 0.1}, "forward_kl has no parameter 'alpha'"),
        ({"name": "skew_kl", "weight": 1, "alpha": 1.5}, r"skew_kl: alpha is 1\.5 \(a share of a mixture"),
    ],
)
def test_token_divergence_settings_refuse(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(TokenDivergenceSettings, values, source="recipe")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"divergence": "reverse_k"}, r"divergence is 'reverse_k'.*\(did you mean reverse_kl\?\)"),
        ({"divergence": "jensen_shannon", "beta": 2}, r"jensen_shannon: beta is 2\.0"),
        ({"on": "teacher"}, r"on is 'teacher'.*'chosen', 'rejected' or 'both'"),
    ],
)
def test_kd_settings_refuse(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(KdSettings, values, source="recipe")
