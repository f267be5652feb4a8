import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import RecipeError
from distill.numerics import log_softmax
from distill.objectives import SampledRows, TopKRows, divergence, sampled_divergence, top_k_divergence
from tests import references
from tests.strategies import logits

P = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log()
Q = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log()
CASES = [
    ("forward_kl", {}),
    ("reverse_kl", {}),
    ("jensen_shannon", {"beta": 0.3}),
    ("total_variation", {}),
    ("chi_squared", {}),
    ("reverse_chi_squared", {}),
    ("skew_kl", {"alpha": 0.1}),
    ("skew_reverse_kl", {"alpha": 0.1}),
    ("alpha_beta", {"alpha": 0.3, "beta": 0.7}),
]
every_f_divergence = pytest.mark.parametrize(("name", "parameters"), CASES)


def lists(log_probs: torch.Tensor, k: int, **fields: int) -> TopKRows:
    """The k likeliest tokens of each row, as the cache has them."""
    values, ids = log_probs.topk(k, dim=-1)
    others = log_probs.exp().scatter(-1, ids, 0.0).sum(-1)
    return TopKRows(ids, values, others, **fields)


def drawn(*counts: list[int], **fields: int) -> SampledRows:
    """Counts by token id, one list per position."""
    table = torch.tensor(counts)
    return SampledRows(torch.arange(table.shape[1]).expand_as(table).contiguous(), table, **fields)


def test_ghost_token_meets_the_test_vector():
    """With top 2 of 3 tokens one is left, so nothing is lost: KL .085123."""
    value = top_k_divergence("forward_kl", Q, lists(P, 2))
    assert value.item() == pytest.approx(0.085123, abs=1e-6)


def test_ghost_token_known_answer():
    """Top 1 of (.7 | .3) and (.5 | .5): .7 ln 7/5 + .3 ln 3/5."""
    value = top_k_divergence("forward_kl", Q, lists(P, 1))
    assert value.item() == pytest.approx(0.7 * math.log(1.4) + 0.3 * math.log(0.6))


@every_f_divergence
@given(teacher=logits(2, vocab=6), student=logits(2, vocab=6), k=st.integers(1, 5))
def test_lists_agree_with_the_reference(name, parameters, teacher, student, k):
    rows = lists(log_softmax(teacher), k)
    distributions = teacher.softmax(-1).tolist(), student.softmax(-1).tolist(), rows.token_ids.tolist()
    expected = [
        references.top_k_divergence(name, p, q, listed=listed, **parameters)
        for p, q, listed in zip(*distributions, strict=True)
    ]
    values = top_k_divergence(name, log_softmax(student), rows, parameters=parameters)
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


@every_f_divergence
@given(teacher=logits(2, vocab=6), student=logits(2, vocab=6), k=st.integers(1, 6))
def test_a_list_never_tells_more_than_the_whole(name, parameters, teacher, student, k):
    """The data-processing inequality; with at most one token left both are equal."""
    p, q = log_softmax(teacher), log_softmax(student)
    listed = top_k_divergence(name, q, lists(p, k), parameters=parameters)
    whole = divergence(name, p, q, **parameters)
    assert (listed <= whole * (1 + 1e-9) + 1e-9).all()
    if k >= 5:
        torch.testing.assert_close(listed, whole, rtol=1e-6, atol=1e-9)


@every_f_divergence
def test_list_gradient_is_that_of_finite_differences(name, parameters):
    generator = torch.manual_seed(6)
    teacher = torch.randn(3, 6, dtype=torch.float64, generator=generator).log_softmax(-1)
    student = torch.randn(3, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    for k in (2, 6):
        rows = lists(teacher, k)
        assert torch.autograd.gradcheck(
            lambda x, rows=rows: top_k_divergence(name, log_softmax(x), rows, parameters=parameters), student
        )


def test_the_gradient_of_the_ghost_token_vanishes_where_the_lists_agree():
    """A list made to sum to one would go on pulling: its minimum has the teacher's proportions, not its masses."""
    student = Q.clone().requires_grad_()
    rows = TopKRows(torch.tensor([[0, 1]]), student.detach()[:, :2], torch.tensor([0.2], dtype=torch.float64))
    top_k_divergence("forward_kl", log_softmax(student), rows).sum().backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(Q), rtol=0, atol=1e-12)


def test_a_tail_below_float32s_noise_is_summed_and_not_taken_from_one():
    """The student's tail is e^-25 = 1.4e-11 of 3 tokens, which 1 - (1 - 1.4e-11) would lose in float32."""
    student = log_softmax(torch.tensor([[0.0, -25.0, -25.0, -25.0]]))
    rows = lists(log_softmax(torch.tensor([[0.0, -20.0, -20.0, -20.0]])), 1)
    expected = 3 * math.exp(-20) * 5 - 3 * math.exp(-20) + 3 * math.exp(-25)
    value = top_k_divergence("forward_kl", student, rows)
    assert value.item() == pytest.approx(expected, abs=1e-7)
    assert value.isfinite().all()


def test_a_list_rounded_to_float16_is_made_to_sum_to_one():
    teacher = torch.randn(50, 40, generator=torch.manual_seed(7)).mul(3).log_softmax(-1)
    rows = lists(teacher, 8)
    rounded = TopKRows(rows.token_ids, rows.log_probs.half(), rows.tail_mass)
    assert (top_k_divergence("forward_kl", teacher, rounded) > -1e-6).all()


@pytest.mark.parametrize("name", ["forward_kl", "skew_reverse_kl"])
def test_padding_rows_of_either_head_count_as_impossible(name):
    """Four tokens, of which one names padding, on the teacher's side or the student's."""
    generator = torch.manual_seed(8)
    teacher, student = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator).log_softmax(-1)
    wider_teacher = torch.cat([teacher, torch.full((3, 1), -40.0, dtype=torch.float64)], dim=-1)
    whole = divergence(name, teacher, student)
    torch.testing.assert_close(top_k_divergence(name, student, lists(wider_teacher, 5, vocab_size=5)), whole)
    wider_student = log_softmax(torch.cat([student, torch.zeros(3, 1, dtype=torch.float64)], dim=-1))
    torch.testing.assert_close(top_k_divergence(name, wider_student, lists(teacher, 4, vocab_size=4)), whole)


def test_a_list_of_the_whole_vocabulary_leaves_no_gradient_that_is_not_a_number():
    student = Q.clone().requires_grad_()
    top_k_divergence("forward_kl", log_softmax(student), lists(P, 3)).sum().backward()
    torch.testing.assert_close(student.grad, Q.exp() - P.exp())


def test_sampled_known_answer():
    """Counts (3, 0, 1) of 4: 3/4 ln 2 + 1/4 ln 5; an entry of count 0 at an impossible token adds nothing."""
    student = torch.tensor([[0.5, 0.0, 0.2, 0.3]], dtype=torch.float64).log()
    value = sampled_divergence("forward_kl", student, drawn([3, 0, 1, 0]))
    assert value.item() == pytest.approx(0.75 * math.log(2) + 0.25 * math.log(5))


@given(teacher=logits(vocab=3), student=logits(vocab=3))
def test_draws_tell_the_cross_entropy_and_its_gradient_without_bias(teacher, student):
    """Expectation over all 3^2 outcomes of two draws, each with its probability: KL + entropy, and grad KL."""
    p = teacher.softmax(-1)
    outcomes = list(itertools.product(range(3), repeat=2))
    chances = torch.stack([p[a] * p[b] for a, b in outcomes])
    rows = drawn(*[[(a == v) + (b == v) for v in range(3)] for a, b in outcomes])
    student.requires_grad_()
    log_probs = log_softmax(student)
    value = (chances * sampled_divergence("forward_kl", log_probs.expand(9, 3), rows)).sum()
    entropy = -(p * log_softmax(teacher)).sum()
    torch.testing.assert_close(value, divergence("forward_kl", log_softmax(teacher), log_probs) + entropy)
    (gradient,) = torch.autograd.grad(value, student)
    torch.testing.assert_close(gradient, student.detach().softmax(-1) - p)


def test_sampled_gradient_is_that_of_finite_differences():
    student = torch.randn(2, 4, dtype=torch.float64, generator=torch.manual_seed(9), requires_grad=True)
    rows = drawn([3, 0, 1, 0], [0, 2, 1, 1])
    assert torch.autograd.gradcheck(lambda x: sampled_divergence("forward_kl", log_softmax(x), rows), student)


def test_draws_of_padding_rows_are_left_out():
    """Counts (1, 1 | 2) over a student of two tokens: 1/2 each. Where nothing else was drawn the value is 0."""
    student = torch.tensor([[0.25, 0.75]] * 2, dtype=torch.float64).log()
    values = sampled_divergence("forward_kl", student, drawn([1, 1, 2], [0, 0, 4], vocab_size=3))
    expected = -0.5 * math.log(0.25) - 0.5 * math.log(0.75)
    torch.testing.assert_close(values, torch.tensor([expected, 0.0], dtype=torch.float64))


def test_a_token_that_was_drawn_and_the_student_rules_out_costs_infinity():
    student = torch.tensor([[0.0, 1.0]], dtype=torch.float64).log()
    assert sampled_divergence("forward_kl", student, drawn([1, 3])).item() == math.inf


def test_draws_tell_nothing_but_forward_kl():
    with pytest.raises(
        RecipeError, match=r"reverse_kl is asked for from tokens drawn.*\nwhy: only forward KL is linear"
    ):
        sampled_divergence("reverse_kl", Q, drawn([1, 1, 2]))
    ends = sampled_divergence("jensen_shannon", Q, drawn([1, 1, 2]), parameters={"beta": 0.0})
    assert torch.equal(ends, sampled_divergence("forward_kl", Q, drawn([1, 1, 2])))
