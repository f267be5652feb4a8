import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.numerics import log_softmax
from distill.objectives import TopKRows, top_k_uld, uld
from tests import references
from tests.strategies import logits

P = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
Q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()


def lists(log_probs: torch.Tensor, k: int) -> TopKRows:
    """The k likeliest tokens of each row."""
    values, ids = log_probs.topk(k, dim=-1)
    return TopKRows(ids, values, (1 - values.exp().sum(-1)).clamp_min(0))


def test_uld_meets_the_test_vector():
    """|.7 - .5| + |.2 - .3| + |.1 - .2| = .4, whichever token is which; a fourth token of .1 adds |0 - .1|."""
    assert uld(P, Q).item() == pytest.approx(0.4)
    assert uld(P, Q.flip(0)).item() == pytest.approx(0.4)
    wider = torch.tensor([0.5, 0.1, 0.2, 0.2], dtype=torch.float64).log()
    assert uld(P, wider).item() == pytest.approx(0.2 + 0.0 + 0.1 + 0.1)


@given(teacher=logits(2, vocab=6), student=logits(2, vocab=4))
def test_uld_agrees_with_the_reference(teacher, student):
    expected = [
        references.uld(p, q) for p, q in zip(teacher.softmax(-1).tolist(), student.softmax(-1).tolist(), strict=True)
    ]
    values = uld(log_softmax(teacher), log_softmax(student))
    torch.testing.assert_close(values, torch.tensor(expected, dtype=torch.float64))


@given(teacher=logits(vocab=5), student=logits(vocab=5), order=st.permutations(range(5)))
def test_renaming_tokens_changes_nothing(teacher, student, order):
    p, q = log_softmax(teacher), log_softmax(student)
    torch.testing.assert_close(uld(p, q[list(order)]), uld(p, q))
    torch.testing.assert_close(uld(p, p[list(order)]), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12)


@given(teacher=logits(2, vocab=6), student=logits(2, vocab=4))
def test_uld_lies_between_zero_and_two_and_does_not_care_who_is_who(teacher, student):
    p, q = log_softmax(teacher), log_softmax(student)
    values = uld(p, q)
    assert ((values >= 0) & (values <= 2 + 1e-12)).all()
    torch.testing.assert_close(values, uld(q, p))


def test_gradient_is_that_of_finite_differences_and_the_teachers_none():
    generator = torch.manual_seed(4)
    teacher = torch.randn(3, 6, dtype=torch.float64, generator=generator).log_softmax(-1).requires_grad_()
    student = torch.randn(3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: uld(teacher, log_softmax(x)), student)
    assert torch.autograd.gradcheck(lambda x: top_k_uld(log_softmax(x), lists(teacher.detach(), 2)), student)
    uld(teacher, log_softmax(student)).sum().backward()
    assert teacher.grad is None


def test_top_k_known_answer():
    """Of p (.7, .2 | .1), of q (.5, .3 | .2): .2 + .1 + .1."""
    assert top_k_uld(Q[None], lists(P[None], 2)).item() == pytest.approx(0.4)


@given(teacher=logits(2, vocab=6), student=logits(2, vocab=4), k=st.integers(1, 6))
def test_a_list_gives_a_lower_bound_off_by_twice_the_lesser_tail(teacher, student, k):
    p, q = log_softmax(teacher), log_softmax(student)
    whole, listed = uld(p, q), top_k_uld(q, lists(p, k))
    tail = torch.minimum(lists(p, k).tail_mass, lists(q, min(k, 4)).tail_mass)
    assert (listed <= whole + 1e-12).all()
    assert (listed >= whole - 2 * tail - 1e-12).all()


def test_a_list_of_the_whole_vocabulary_is_uld():
    p, q = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.manual_seed(5)).log_softmax(-1)
    torch.testing.assert_close(top_k_uld(q, lists(p, 5)), uld(p, q))


def test_narrow_log_probs_are_widened():
    assert uld(P.bfloat16(), Q.bfloat16()).dtype == torch.float32
    assert math.isclose(uld(P.float(), Q.float()).item(), 0.4, rel_tol=1e-6)
