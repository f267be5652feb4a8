import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from distill.numerics import log_softmax
from distill.objectives import OutputHead, TopKRows, divergence, top_k_divergence
from distill.objectives.chunk_terms import ChunkTerms, ForwardKlTerm, ListedTerm
from distill.objectives.fused import fused_token_values
from distill.objectives.sparse import listed_divergence

TOKENS, HIDDEN, VOCAB = 6, 4, 9
FORMS = [(1.0, None, False), (0.25, None, True), (1.0, 1.5, False), (0.5, 2.0, True)]
CHUNKS = [1, 4 * VOCAB, 10**6]


def case(form: tuple[float, float | None, bool], *, seed: int = 0) -> tuple[list[Tensor], Tensor, OutputHead]:
    """Leaves (states, weight, bias where there is one), targets and head, in float64."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_()

    leaves = [normal(TOKENS, HIDDEN), normal(VOCAB, HIDDEN), *([normal(VOCAB)] if form[2] else [])]
    targets = torch.randint(VOCAB, (TOKENS,), generator=draw)
    return leaves, targets, OutputHead(leaves[1], leaves[2] if form[2] else None, form[0], form[1])


def teacher_lists(num_entries: int, *, seed: int = 5) -> tuple[TopKRows, Tensor]:
    """The teacher's likeliest tokens, and which entries count: the last of every second row does not."""
    draw = torch.Generator().manual_seed(seed)
    log_probs = log_softmax(torch.randn(TOKENS, VOCAB, generator=draw, dtype=torch.float64))
    listed, ids = log_probs.topk(num_entries)
    is_listed = torch.ones(TOKENS, num_entries, dtype=torch.bool)
    is_listed[::2, -1] = False
    # An entry that does not count names a token of the vocabulary all the same, here one that is listed.
    ids = torch.where(is_listed, ids, ids[:, :1])
    tail = 1 - torch.where(is_listed, listed.exp(), 0.0).sum(-1)
    return TopKRows(torch.where(is_listed, ids, VOCAB), listed, tail.clamp_min(0.0)), is_listed


def both_ways(name: str, rows: TopKRows, is_listed: Tensor) -> tuple[ListedTerm, Callable[[Tensor, slice], Tensor]]:
    def part(tokens: slice) -> TopKRows:
        return TopKRows(rows.token_ids[tokens], rows.log_probs[tokens], rows.tail_mass[tokens])

    def listed(log_probs: Tensor, tokens: slice) -> Tensor:
        return listed_divergence(name, log_probs, part(tokens), is_listed=is_listed[tokens])

    def whole(log_probs: Tensor, tokens: slice) -> Tensor:
        return top_k_divergence(name, log_probs, part(tokens))

    return ListedTerm(listed, rows.token_ids, is_listed), whole


def values_and_gradients(
    leaves: list[Tensor], targets: Tensor, head: OutputHead, terms: ChunkTerms, *, max_logits: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    weights = torch.randn(2, TOKENS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    values = fused_token_values(leaves[0], head, targets, terms, max_logits=max_logits)
    return values.detach(), torch.autograd.grad((values * weights).sum(), leaves)


@pytest.mark.parametrize("max_logits", CHUNKS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jensen_shannon"])
def test_lists_give_what_whole_distributions_give(name, form, max_logits):
    leaves, targets, head = case(form)
    listed, whole = both_ways(name, *teacher_lists(3))
    found = values_and_gradients(leaves, targets, head, listed, max_logits=max_logits)
    torch.testing.assert_close(found, values_and_gradients(leaves, targets, head, (whole,), max_logits=max_logits))


@given(num_entries=st.integers(1, VOCAB), seed=st.integers(0, 10**6))
def test_lists_of_any_length_do_to_the_whole_vocabulary(num_entries: int, seed: int):
    leaves, targets, head = case(FORMS[0], seed=seed)
    listed, whole = both_ways("forward_kl", *teacher_lists(num_entries, seed=seed + 1))
    found = values_and_gradients(leaves, targets, head, listed, max_logits=2 * VOCAB)
    torch.testing.assert_close(found, values_and_gradients(leaves, targets, head, (whole,), max_logits=2 * VOCAB))


def test_a_list_of_the_whole_vocabulary_leaves_no_rest():
    leaves, targets, head = case(FORMS[0])
    log_probs = log_softmax(torch.randn(TOKENS, VOCAB, dtype=torch.float64))
    ids = torch.arange(VOCAB).expand(TOKENS, VOCAB)
    rows, is_listed = TopKRows(ids, log_probs, torch.zeros(TOKENS, dtype=torch.float64)), ids >= 0
    values, gradients = values_and_gradients(
        leaves, targets, head, both_ways("forward_kl", rows, is_listed)[0], max_logits=10**6
    )
    expected = divergence("forward_kl", log_probs, log_softmax(head.logits(leaves[0])))
    torch.testing.assert_close(values[1], expected.detach())
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck_of_lists(form):
    leaves, targets, head = case(form)
    listed, _ = both_ways("reverse_kl", *teacher_lists(3))

    def values(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        changed = OutputHead(weight, bias, head.logit_scale, head.soft_cap)
        return fused_token_values(states, changed, targets, listed, max_logits=4 * VOCAB)

    assert torch.autograd.gradcheck(values, leaves)


def test_a_mass_too_small_for_float32_is_not_lost():
    """The rest of the student's distribution is e^-120: its log is -120, not that of an underflowed 0."""
    states, weight = torch.ones(1, 1), torch.tensor([[120.0], [0.0]])
    seen: list[Tensor] = []

    def rest(log_probs: Tensor, tokens: slice) -> Tensor:
        seen.append(log_probs.detach().clone())
        return log_probs[:, -1]

    term = ListedTerm(rest, torch.tensor([[0]]), torch.tensor([[True]]))
    values = fused_token_values(states, OutputHead(weight), torch.tensor([0]), term)
    torch.testing.assert_close(values, torch.tensor([[0.0], [-120.0]]))
    assert len(seen[0][0]) == 2


@pytest.mark.parametrize("max_logits", CHUNKS)
@pytest.mark.parametrize("form", FORMS)
def test_forward_kl_from_logits_is_the_divergence_of_both_distributions(form, max_logits):
    leaves, targets, head = case(form)
    logits = torch.randn(TOKENS, VOCAB, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    short = ForwardKlTerm(lambda tokens: logits[tokens].clone())

    def whole(log_probs: Tensor, tokens: slice) -> Tensor:
        return divergence("forward_kl", log_softmax(logits[tokens]), log_probs)

    found = values_and_gradients(leaves, targets, head, short, max_logits=max_logits)
    torch.testing.assert_close(found, values_and_gradients(leaves, targets, head, (whole,), max_logits=max_logits))


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck_of_forward_kl(form):
    leaves, targets, head = case(form)
    logits = torch.randn(TOKENS, VOCAB, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    def values(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        changed = OutputHead(weight, bias, head.logit_scale, head.soft_cap)
        term = ForwardKlTerm(lambda tokens: logits[tokens].clone())
        return fused_token_values(states, changed, targets, term, max_logits=4 * VOCAB)

    assert torch.autograd.gradcheck(values, leaves)


def test_forward_kl_known_by_hand():
    """p = (3/4, 1/4) against q = (1/2, 1/2): ln 2 less the entropy of p; its slope along z_0 is 1/2 - 3/4."""
    head = OutputHead(torch.zeros(2, 1, dtype=torch.float64).requires_grad_())
    logits = torch.tensor([[math.log(3.0), 0.0]], dtype=torch.float64)
    values = fused_token_values(
        torch.ones(1, 1, dtype=torch.float64), head, torch.tensor([1]), ForwardKlTerm(lambda tokens: logits.clone())
    )
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    torch.testing.assert_close(values[1].item(), math.log(2) - entropy)
    (slope,) = torch.autograd.grad(values[1].sum(), head.weight)
    torch.testing.assert_close(slope, torch.tensor([[-0.25], [0.25]], dtype=torch.float64))
