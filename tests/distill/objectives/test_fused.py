import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from distill.numerics import log_softmax, token_log_probs
from distill.objectives import OutputHead, divergence
from distill.objectives.fused import BlockLoss, fused_block_loss, fused_token_log_probs, fused_token_values
from tests.references import log_softmax as plain_log_softmax

TOKENS, HIDDEN, VOCAB = 9, 4, 11
SIZES = (3, 1, 5)
STARTS = (0, 3, 4, 9)
CHUNKS = [1, 4 * VOCAB, 10**6]
FORMS = [(1.0, None, False), (0.25, None, True), (1.0, 1.5, False), (0.5, 2.0, True)]


def head_of(
    scale: float = 1.0, soft_cap: float | None = None, has_bias: bool = False, *, dtype: torch.dtype = torch.float64
) -> OutputHead:
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(VOCAB, HIDDEN, generator=draw, dtype=dtype).requires_grad_()
    bias = torch.randn(VOCAB, generator=draw, dtype=dtype).requires_grad_() if has_bias else None
    return OutputHead(weight, bias, scale, soft_cap)


def states_of(*, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    states = torch.randn(TOKENS, HIDDEN, generator=draw, dtype=dtype).requires_grad_()
    return states, torch.randint(VOCAB, (TOKENS,), generator=draw)


def teacher() -> Tensor:
    return log_softmax(torch.randn(TOKENS, VOCAB, generator=torch.Generator().manual_seed(3), dtype=torch.float64))


def learnt(states: Tensor, head: OutputHead) -> list[Tensor]:
    return [states, head.weight, *([] if head.bias is None else [head.bias])]


def reverse_kl(log_probs: Tensor, tokens: slice) -> Tensor:
    return divergence("reverse_kl", teacher()[tokens], log_probs)


def total_variation(log_probs: Tensor, tokens: slice) -> Tensor:
    return divergence("total_variation", teacher()[tokens], log_probs)


def plain_values(states: Tensor, head: OutputHead, targets: Tensor, terms: tuple) -> Tensor:
    log_probs = log_softmax(head.logits(states))
    rows = [log_probs.gather(1, targets[:, None])[:, 0], *(term(log_probs, slice(0, TOKENS)) for term in terms)]
    return torch.stack(rows)


def crooked(values: Tensor, tokens: slice, blocks: slice) -> BlockLoss:
    """A loss that is linear in no block: squares of sums, the terms weighted by place."""
    total, seen = values.new_zeros(()), 0.0
    for block in range(blocks.start, blocks.stop):
        own = values[:, STARTS[block] - tokens.start : STARTS[block + 1] - tokens.start]
        weights = torch.arange(1, len(own) + 1, dtype=own.dtype)[:, None]
        total, seen = total + (weights * own).sum().square() * (block + 1), seen + block
    return BlockLoss(total, {"blocks": torch.tensor(seen)})


def test_a_log_prob_known_by_hand():
    """States (1, 0), weight rows (ln 2, 0) and (0, 5): logits ln 2 and 0, so p = 2/3 and 1/3."""
    head = OutputHead(torch.tensor([[math.log(2), 0.0], [0.0, 5.0]]))
    found = fused_token_log_probs(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), head, torch.tensor([0, 1]))
    torch.testing.assert_close(found, torch.tensor([math.log(2 / 3), math.log(1 / 3)]))


@given(seed=st.integers(0, 10**6), max_logits=st.integers(1, 100), size=st.floats(0.1, 30.0))
def test_log_probs_are_those_of_numpy_in_chunks_of_any_size(seed: int, max_logits: int, size: float):
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(5, 3, generator=draw, dtype=torch.float64) * size
    weight = torch.randn(7, 3, generator=draw, dtype=torch.float64)
    targets = torch.randint(7, (5,), generator=draw)
    found = fused_token_log_probs(states, OutputHead(weight), targets, max_logits=max_logits)
    logits = (states @ weight.t()).tolist()
    expected = [plain_log_softmax(row)[target] for row, target in zip(logits, targets.tolist(), strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("max_logits", CHUNKS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("terms", [(), (reverse_kl,), (reverse_kl, total_variation)], ids=len)
def test_values_and_gradients_are_the_plain_ones(form, terms, max_logits):
    (states, targets), head = states_of(), head_of(*form)
    weights = torch.randn(1 + len(terms), TOKENS, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    expected = plain_values(states, head, targets, terms)
    found = fused_token_values(states, head, targets, terms, max_logits=max_logits)
    torch.testing.assert_close(found, expected)
    leaves = learnt(states, head)
    gradients = torch.autograd.grad((found * weights).sum(), leaves)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weights).sum(), leaves))


@pytest.mark.parametrize("max_logits", CHUNKS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("terms", [(), (reverse_kl, total_variation)], ids=len)
def test_a_block_loss_is_the_plain_one_whether_blocks_fit_a_chunk_or_not(form, terms, max_logits):
    (states, targets), head = states_of(), head_of(*form)
    leaves = learnt(states, head)
    plain = crooked(plain_values(states, head, targets, terms), slice(0, TOKENS), slice(0, 3)).loss
    expected = torch.autograd.grad(0.5 * plain, leaves)
    found = fused_block_loss(states, head, targets, block_sizes=SIZES, loss=crooked, terms=terms, max_logits=max_logits)
    torch.testing.assert_close(found.loss, plain)
    assert found.quantities["blocks"].item() == 0 + 1 + 2
    torch.testing.assert_close(torch.autograd.grad(0.5 * found.loss, leaves), expected)


@pytest.mark.parametrize("form", FORMS)
def test_gradcheck(form):
    (states, targets), head = states_of(), head_of(*form)
    leaves = learnt(states, head)

    def values(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        changed = OutputHead(weight, bias, head.logit_scale, head.soft_cap)
        return fused_token_values(states, changed, targets, (reverse_kl,), max_logits=3 * VOCAB)

    assert torch.autograd.gradcheck(values, leaves)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("max_logits", CHUNKS)
def test_a_block_losss_gradient_is_its_slope_in_any_direction(form, max_logits):
    """Central differences: gradcheck itself runs a graph backward more than once."""
    (states, targets), head = states_of(), head_of(*form)
    leaves = learnt(states, head)

    def loss(*leaves: Tensor) -> Tensor:
        changed = OutputHead(leaves[1], leaves[2] if len(leaves) > 2 else None, head.logit_scale, head.soft_cap)
        return fused_block_loss(
            leaves[0], changed, targets, block_sizes=SIZES, loss=crooked, terms=(reverse_kl,), max_logits=max_logits
        ).loss

    directions = [torch.randn(leaf.shape, dtype=leaf.dtype) for leaf in leaves]
    gradients = torch.autograd.grad(loss(*leaves), leaves)
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
    with torch.no_grad():
        up, down = (loss(*(x + e * d for x, d in zip(leaves, directions, strict=True))) for e in (1e-6, -1e-6))
    torch.testing.assert_close((up - down) / 2e-6, slope, rtol=1e-5, atol=1e-4)


def test_without_gradients_a_block_loss_is_the_same_number():
    (states, targets), head = states_of(), head_of()
    with_gradients = fused_block_loss(states, head, targets, block_sizes=SIZES, loss=crooked)
    with torch.no_grad():
        without = fused_block_loss(states, head, targets, block_sizes=SIZES, loss=crooked, max_logits=VOCAB)
    assert not without.loss.requires_grad
    torch.testing.assert_close(without.loss, with_gradients.loss.detach())


def test_without_blocks_every_token_is_one():
    (states, targets), head = states_of(), head_of()
    asked: list[slice] = []

    def loss(values: Tensor, tokens: slice, blocks: slice) -> BlockLoss:
        asked.append(tokens)
        assert tokens == blocks
        return BlockLoss(-values[0].sum(), {})

    found = fused_block_loss(states, head, targets, loss=loss, max_logits=4 * VOCAB)
    torch.testing.assert_close(found.loss, -token_log_probs(head.logits(states), targets).sum())
    assert [(tokens.start, tokens.stop) for tokens in asked] == [(0, 3), (3, 6), (6, 9)]


def test_a_frozen_head_gets_no_gradient_and_costs_no_product(monkeypatch: pytest.MonkeyPatch):
    """Of three products with the head two are left: logits, and the gradient of the states."""
    (states, targets), head = states_of(), head_of()
    frozen = OutputHead(head.weight.detach())
    products = _Watch()
    with products:
        fused_block_loss(states, frozen, targets, block_sizes=SIZES, loss=crooked).loss.backward()
    assert products.count == 2
    assert states.grad is not None
    products = _Watch()
    with products:
        fused_block_loss(states.detach(), head, targets, block_sizes=SIZES, loss=crooked).loss.backward()
    assert products.count == 2
    assert head.weight.grad is not None


def test_a_pair_that_fits_its_chunk_costs_three_products_and_one_that_does_not_four():
    (states, targets), head = states_of(), head_of()
    counts = []
    for max_logits in (10**6, 5 * VOCAB):
        watch = _Watch()
        with watch:
            fused_block_loss(states, head, targets, block_sizes=[TOKENS], loss=_sum, max_logits=max_logits)
        counts.append(watch.count)
    assert counts == [3, 2 * 4]


@pytest.mark.parametrize("terms", [(), (reverse_kl,)], ids=len)
def test_no_tensor_is_as_large_as_the_table_of_logits(terms):
    """40 tokens by 500 words: nothing above a chunk of 4 tokens, but the weight's 500 by 4 and its gradient."""
    states = torch.randn(40, 4, requires_grad=True)
    weight = torch.randn(500, 4, requires_grad=True)
    rows = torch.randn(40, 500).log_softmax(-1)
    chosen = tuple(lambda log_probs, tokens: divergence("forward_kl", rows[tokens], log_probs) for _ in terms)
    watch = _Watch()
    with watch:
        values = fused_token_values(states, OutputHead(weight), torch.arange(40), chosen, max_logits=4 * 500)
        values.sum().backward()
        fused_block_loss(
            states, OutputHead(weight), torch.arange(40), block_sizes=[3, 17, 20], loss=_sum, max_logits=4 * 500
        ).loss.backward()
    assert watch.largest == 4 * 500


def test_gradients_of_16_bit_weights_are_summed_in_float32_and_stored_in_16():
    states, targets = states_of(dtype=torch.bfloat16)
    head = head_of(dtype=torch.bfloat16)
    wide = OutputHead(head.weight.detach().float().requires_grad_())
    wide_states = states.detach().float().requires_grad_()
    fused_token_log_probs(states, head, targets, max_logits=VOCAB).sum().backward()
    fused_token_log_probs(wide_states, wide, targets).sum().backward()
    assert head.weight.grad is not None
    assert wide.weight.grad is not None
    assert head.weight.grad.dtype == torch.bfloat16
    torch.testing.assert_close(head.weight.grad, wide.weight.grad.bfloat16())


def test_a_padded_vocabulary_ruled_out_by_a_bias_changes_nothing():
    (states, targets), head = states_of(), head_of()
    padded = OutputHead(
        torch.cat([head.weight, torch.randn(3, HIDDEN, dtype=torch.float64)]),
        torch.tensor([0.0] * VOCAB + [-math.inf] * 3, dtype=torch.float64),
    )
    expected = torch.autograd.grad(fused_token_log_probs(states, head, targets).sum(), states)
    found = fused_token_log_probs(states, padded, targets)
    torch.testing.assert_close(found, fused_token_log_probs(states, head, targets))
    torch.testing.assert_close(torch.autograd.grad(found.sum(), states), expected)


def test_a_term_that_does_not_depend_on_the_student_adds_no_gradient():
    """As of a chunk none of whose tokens count."""
    (states, targets), head = states_of(), head_of()

    def constant(log_probs: Tensor, tokens: slice) -> Tensor:
        return log_probs.new_ones(len(log_probs))

    values = fused_token_values(states, head, targets, (constant,))
    torch.testing.assert_close(values[1], torch.ones(TOKENS, dtype=torch.float64))
    found = torch.autograd.grad(values.sum(), states)
    torch.testing.assert_close(found, torch.autograd.grad(fused_token_log_probs(states, head, targets).sum(), states))


def test_no_tokens_make_an_empty_answer_and_no_loss():
    head = head_of()
    states, targets = torch.zeros(0, HIDDEN, dtype=torch.float64, requires_grad=True), torch.zeros(0, dtype=torch.int64)
    assert fused_token_values(states, head, targets, (reverse_kl,)).shape == (2, 0)
    assert fused_block_loss(states, head, targets, block_sizes=[], loss=_sum).loss.item() == 0.0


def test_a_block_loss_runs_backward_once():
    (states, targets), head = states_of(), head_of()
    loss = fused_block_loss(states, head, targets, block_sizes=SIZES, loss=crooked).loss
    loss.backward(retain_graph=True)
    with pytest.raises(AssertionError, match="run backward once"):
        loss.backward()


def _sum(values: Tensor, tokens: slice, blocks: slice) -> BlockLoss:
    return BlockLoss(values.sum(), {})


class _Watch(TorchDispatchMode):
    """Counts matrix products, and the elements of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.count += func.overloadpacket.__name__ in ("mm", "addmm", "addmm_")
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result
