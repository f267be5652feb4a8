import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RecipeError
from distill.objectives import KdSettings, TokenDivergenceSettings, TokenValues, pair_means
from distill.objectives.token_divergence import counted_tokens, given_parameters, require_parameters
from distill.settings import validated
from tests.strategies import tensors

PAIR_INDEX = torch.tensor([0, 0, 1, 1, 0])
IS_CHOSEN = torch.tensor([True, False, True, False, False])


def known_values(**fields: torch.Tensor) -> TokenValues:
    return TokenValues(torch.arange(1, 6, dtype=torch.float64), PAIR_INDEX, IS_CHOSEN, **fields)


@pytest.mark.parametrize(
    ("on", "expected"),
    [("both", [(1 + 2 + 5) / 3, (3 + 4) / 2]), ("chosen", [1.0, 3.0]), ("rejected", [(2 + 5) / 2, 4.0])],
)
def test_each_pair_gets_the_mean_over_its_own_tokens(on, expected):
    """Values 1 to 5. Tokens 0, 1, 4 are pair 0's (the first of them chosen), tokens 2, 3 pair 1's."""
    means = pair_means(known_values(), num_pairs=2, on=on)
    torch.testing.assert_close(means, torch.tensor(expected, dtype=torch.float64))


def test_a_pair_without_tokens_that_count_gives_zero():
    assert pair_means(known_values(), num_pairs=3)[2] == 0.0


def test_tokens_that_the_teacher_says_nothing_of_are_not_divided_by():
    """Without tokens 1 and 3: (1 + 5) / 2 and 3."""
    told = torch.tensor([True, False, True, False, True])
    means = pair_means(known_values(is_told=told), num_pairs=2)
    torch.testing.assert_close(means, torch.tensor([3.0, 3.0], dtype=torch.float64))


@given(values=tensors(5), order=st.permutations(range(5)))
def test_the_order_of_tokens_does_not_matter(values, order):
    i = torch.tensor(order)
    means = pair_means(TokenValues(values, PAIR_INDEX, IS_CHOSEN), num_pairs=2)
    shuffled = pair_means(TokenValues(values[i], PAIR_INDEX[i], IS_CHOSEN[i]), num_pairs=2)
    torch.testing.assert_close(shuffled, means)


@pytest.mark.parametrize("on", ["chosen", "rejected"])
@pytest.mark.parametrize("rubbish", [math.nan, math.inf, -math.inf])
def test_what_stands_at_tokens_that_do_not_count_changes_nothing(on, rubbish):
    counted = counted_tokens(IS_CHOSEN, None, on)
    results = []
    for filling in (0.0, rubbish):
        values = torch.where(counted, torch.arange(1.0, 6.0), filling).requires_grad_()
        means = pair_means(TokenValues(values, PAIR_INDEX, IS_CHOSEN), num_pairs=2, on=on)
        means.sum().backward()
        results.append((means.detach(), values.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert (results[1][1][~counted] == 0).all()


def test_gradient_is_that_of_finite_differences():
    values = torch.randn(5, dtype=torch.float64, generator=torch.manual_seed(8), requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: pair_means(TokenValues(x, PAIR_INDEX, IS_CHOSEN), num_pairs=2, on="rejected"), values
    )


def test_counted_tokens_known_answer():
    is_chosen, is_told = torch.tensor([True, False, False]), torch.tensor([True, True, False])
    assert counted_tokens(is_chosen, None, "both").tolist() == [True, True, True]
    assert counted_tokens(is_chosen, None, "chosen").tolist() == [True, False, False]
    assert counted_tokens(is_chosen, None, "rejected").tolist() == [False, True, True]
    assert counted_tokens(is_chosen, is_told, "rejected").tolist() == [False, True, False]


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
        (
            {"name": "chi_squared", "weight": 1, "tier": "sampled"},
            "tier is sampled, but chi_squared cannot be computed",
        ),
        ({"name": "uld", "weight": 1}, r"name is 'uld'"),
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
        ({"divergence": "uld", "alpha": 1}, r"divergence uld has no parameter 'alpha'"),
        (
            {"divergence": "reverse_kl", "tier": "sampled"},
            r"tier is sampled, but reverse_kl cannot be computed from it",
        ),
        ({"temperature": 2, "tier": "top-k"}, r"tier is top-k, but forward_kl at temperature 2 cannot"),
        ({"temperature": 0}, r"temperature is 0.*must be positive"),
        ({"tier": "scores"}, r"tier is 'scores'"),
        ({"on": "teacher"}, r"on is 'teacher'.*'chosen', 'rejected' or 'both'"),
    ],
)
def test_kd_settings_refuse(values, message):
    with pytest.raises(RecipeError, match=message):
        validated(KdSettings, values, source="recipe")
