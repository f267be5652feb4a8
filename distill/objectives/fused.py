"""Head and loss in one: log-probs and divergences of many tokens, with the logits of one chunk at a time.

A full table of logits, [tokens, vocab], is never kept. Where the gradient of a token's logits is known once its
block's loss is (a preference pair needs its own tokens only), logits, loss and gradients are made in one pass, with
three products with the head; a block larger than a chunk, and every loss that is not made here, computes its logits
a second time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from distill.objectives.chunk_terms import ChunkTerms
from distill.objectives.head_chunks import HeadChunks, HeadGradients
from distill.objectives.output_head import OutputHead

MAX_LOGITS = 2**24
"""Logits that are kept at a time: 64 MiB in float32."""


@dataclass(frozen=True)
class BlockLoss:
    """What some whole blocks add to the loss, and to the figures that are logged (by name, detached)."""

    loss: Float[Tensor, ""]
    quantities: dict[str, Tensor]


LossOfBlocks: TypeAlias = Callable[[Tensor, slice, slice], BlockLoss]
"""(values [1 + terms, tokens], which tokens, which blocks) -> what these blocks add.

The first row of the values is the log-prob of each target, the others are what each `ChunkTerm` says of each token;
all carry gradients. A block is never cut, and each is given once.
"""


def fused_token_log_probs(
    hidden_states: Float[Tensor, "tokens hidden"],
    head: OutputHead,
    target_ids: Int[Tensor, " tokens"],
    *,
    max_logits: int = MAX_LOGITS,
) -> Float[Tensor, " tokens"]:
    r"""Log-probability of each target, in nats, in float32 or wider: :math:`z_y - \log\sum_v e^{z_v}`.

    Equal to `token_log_probs(head.logits(hidden_states), target_ids)`, in value and gradient, without its table of
    logits: those of a chunk of tokens are made, used and overwritten, and once more in the backward pass. A head or
    states that need no gradient cost no product for one. There is no second derivative.

    Args:
        hidden_states: what the head sees.
        head: its weight and bias may carry gradients.
        target_ids: the token whose log-prob is wanted, per row.
        max_logits: of one chunk; a chunk has one token at least.
    """
    return fused_token_values(hidden_states, head, target_ids, (), max_logits=max_logits)[0]


def fused_token_values(
    hidden_states: Float[Tensor, "tokens hidden"],
    head: OutputHead,
    target_ids: Int[Tensor, " tokens"],
    terms: ChunkTerms,
    *,
    max_logits: int = MAX_LOGITS,
) -> Float[Tensor, "values tokens"]:
    """Log-probs of the targets, and below them what each term says of the same tokens, from one normalisation.

    Args:
        hidden_states: what the head sees.
        head: its weight and bias may carry gradients.
        target_ids: the token whose log-prob is wanted, per row.
        terms: functions of a chunk's log-probs, such as a divergence from a teacher.
        max_logits: of one chunk; a chunk has one token at least.

    Returns:
        1 + terms rows; a token's column depends on that token alone.
    """
    plan = _Plan(head, target_ids, terms, max_logits)
    values: Tensor = _TokenValues.apply(hidden_states, head.weight, head.bias, plan)  # type: ignore[no-untyped-call]
    return values


def fused_block_loss(
    hidden_states: Float[Tensor, "tokens hidden"],
    head: OutputHead,
    target_ids: Int[Tensor, " tokens"],
    *,
    loss: LossOfBlocks,
    block_sizes: Sequence[int] | None = None,
    terms: ChunkTerms = (),
    max_logits: int = MAX_LOGITS,
) -> BlockLoss:
    """The sum of a loss over blocks of tokens that need nothing of each other, with gradients made on the way.

    Whole blocks share a chunk while they fit; for each chunk logits, values, loss and the gradients of states and head
    are made before the next one. A block larger than a chunk is read twice: once for its values, once for its
    gradients. The backward pass multiplies what is there by the gradient of the loss, in place, and so runs once.

    Args:
        hidden_states: what the head sees.
        head: its weight and bias may carry gradients.
        target_ids: the token whose log-prob is wanted, per row.
        loss: what some blocks add; divided already by whatever the whole is divided by.
        block_sizes: tokens of each block, in order; None: every token is a block.
        terms: functions of a chunk's log-probs, whose values the loss reads.
        max_logits: of one chunk; a chunk has one token at least.

    Returns:
        The sums over all blocks; the loss carries gradients, where gradients are wanted at all.
    """
    assert block_sizes is None or sum(block_sizes) == len(target_ids), "every token belongs to one block"
    plan = _Plan(head, target_ids, terms, max_logits)
    blocks = _Blocks(plan, None if block_sizes is None else tuple(block_sizes), loss, {})
    needs = (hidden_states.requires_grad, head.weight.requires_grad, head.bias is not None and head.bias.requires_grad)
    if torch.is_grad_enabled() and any(needs):
        total: Tensor = _BlockLoss.apply(hidden_states, head.weight, head.bias, blocks)  # type: ignore[no-untyped-call]
    else:
        total = _sum_over_blocks(hidden_states, blocks, None)
    return BlockLoss(total, blocks.quantities)


@dataclass(frozen=True)
class _Plan:
    """What does not carry gradients: the head's form, targets, terms and the size of a chunk."""

    head: OutputHead
    target_ids: Tensor
    terms: ChunkTerms
    max_logits: int

    @property
    def chunk_size(self) -> int:
        return max(1, min(self.max_logits // len(self.head.weight), len(self.target_ids)))

    def chunks(self, hidden_states: Tensor) -> HeadChunks:
        """A buffer for the logits of one chunk."""
        return HeadChunks(hidden_states, self.head, self.target_ids, self.terms, size=self.chunk_size)

    def ranges(self, tokens: slice) -> list[slice]:
        """Runs of at most one chunk that make up `tokens`, alike in size."""
        length = tokens.stop - tokens.start
        num_parts = -(-length // self.chunk_size)
        ends = [tokens.start + length * part // num_parts for part in range(num_parts + 1)] if num_parts else []
        return [slice(start, stop) for start, stop in pairwise(ends)]


@dataclass(frozen=True)
class _Blocks:
    """A plan with blocks and their loss; quantities are added up here."""

    plan: _Plan
    sizes: tuple[int, ...] | None
    loss: LossOfBlocks
    quantities: dict[str, Tensor]

    def groups(self) -> list[tuple[slice, slice]]:
        """(tokens, blocks) of runs of whole blocks that fit a chunk, or of one block that does not."""
        if self.sizes is None:
            return [(tokens, tokens) for tokens in self.plan.ranges(slice(0, len(self.plan.target_ids)))]
        groups: list[tuple[slice, slice]] = []
        token = 0
        for block, size in enumerate(self.sizes):
            tokens, blocks = groups[-1] if groups else (slice(0, 0), slice(0, 0))
            if groups and token + size - tokens.start <= self.plan.chunk_size:
                groups[-1] = (slice(tokens.start, token + size), slice(blocks.start, block + 1))
            else:
                groups.append((slice(token, token + size), slice(block, block + 1)))
            token += size
        return groups

    def add(self, values: Tensor, tokens: slice, blocks: slice) -> Tensor:
        """The loss of these blocks; its quantities go to the sums."""
        result = self.loss(values, tokens, blocks)
        for name, value in result.quantities.items():
            value = value.detach()
            self.quantities[name] = self.quantities[name] + value if name in self.quantities else value
        return result.loss


class _TokenValues(torch.autograd.Function):
    """`fused_token_values`: logits are made in the forward pass, and once more in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden_states: Tensor, weight: Tensor, bias: Tensor | None, plan: _Plan) -> Tensor:
        ctx.save_for_backward(hidden_states, weight, *(() if bias is None else (bias,)))
        ctx.plan = plan
        chunks = plan.chunks(hidden_states)
        parts = [chunks.values(tokens) for tokens in plan.ranges(slice(0, len(hidden_states)))]
        return torch.cat(parts, dim=1) if parts else chunks.no_values()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden_states, *_ = ctx.saved_tensors
        plan: _Plan = ctx.plan
        chunks = plan.chunks(hidden_states)
        gradients = HeadGradients(chunks, needs=ctx.needs_input_grad[:3])
        for tokens in plan.ranges(slice(0, len(hidden_states))):
            chunks.values(tokens, keeps_graph=True)
            gradients.add(tokens, gradient[:, tokens])
        return (*gradients.in_stored_dtypes(), None)


class _BlockLoss(torch.autograd.Function):
    """`fused_block_loss`: the gradients are made in the forward pass; the backward pass scales them."""

    @staticmethod
    def forward(ctx: Any, hidden_states: Tensor, weight: Tensor, bias: Tensor | None, blocks: _Blocks) -> Tensor:
        chunks = blocks.plan.chunks(hidden_states)
        gradients = HeadGradients(chunks, needs=ctx.needs_input_grad[:3])
        total = _sum_over_blocks(hidden_states, blocks, gradients, chunks=chunks)
        ctx.gradients = gradients
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients: HeadGradients | None = ctx.gradients
        assert gradients is not None, "the gradients of a block loss are scaled in place, so it is run backward once"
        ctx.gradients = None
        gradients.scale(gradient)
        return (*gradients.in_stored_dtypes(), None)


def _sum_over_blocks(
    hidden_states: Tensor, blocks: _Blocks, gradients: HeadGradients | None, *, chunks: HeadChunks | None = None
) -> Tensor:
    """The loss of all blocks; adds up gradients where a place for them is given."""
    chunks = blocks.plan.chunks(hidden_states) if chunks is None else chunks
    total = chunks.no_values().new_zeros(())
    for tokens, which in blocks.groups():
        parts = blocks.plan.ranges(tokens)
        is_one_pass = len(parts) == 1
        found = [chunks.values(part, keeps_graph=gradients is not None and is_one_pass) for part in parts]
        values = torch.cat(found, dim=1) if found else chunks.no_values()
        if gradients is None:
            total += blocks.add(values, tokens, which)
            continue
        with torch.enable_grad():
            values = values.detach().requires_grad_()
            loss = blocks.add(values, tokens, which)
            (gradient,) = torch.autograd.grad(loss, values, allow_unused=True, materialize_grads=True)
        total += loss.detach()
        for part in parts:
            if not is_one_pass:
                chunks.values(part, keeps_graph=True)
            gradients.add(part, gradient[:, part.start - tokens.start : part.stop - tokens.start])
    return total
