"""The logits of one chunk of tokens in a buffer that is used again, and the gradients they leave behind."""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.numerics import widened
from distill.objectives.chunk_readings import reading_of
from distill.objectives.chunk_terms import ChunkTerms, num_terms
from distill.objectives.output_head import OutputHead


class HeadChunks:
    """Logits of a chunk, read and turned in place into their gradient.

    Args:
        hidden_states: [tokens, hidden] of all chunks.
        head: what turns them into logits.
        target_ids: [tokens].
        terms: what else is wanted of a token beside its target's log-prob.
        size: most tokens of a chunk.
    """

    def __init__(
        self, hidden_states: Tensor, head: OutputHead, target_ids: Tensor, terms: ChunkTerms, *, size: int
    ) -> None:
        self.head, self.target_ids, self.num_values = head, target_ids, 1 + num_terms(terms)
        self._reading = reading_of(terms)
        weight = head.weight.detach()
        is_native = weight.dtype == torch.bfloat16 and weight.is_cuda
        # Accelerators multiply bfloat16 with sums in float32; CPUs multiply it slower than float32.
        self.weight = weight if is_native else widened(weight)
        self.hidden_states = hidden_states.detach().to(self.weight.dtype)
        self.bias = None if head.bias is None else widened(head.bias.detach())
        self.stored_dtypes = (hidden_states.dtype, weight.dtype, None if head.bias is None else head.bias.dtype)
        self.dtype = widened(weight[:0]).dtype
        self._buffer = torch.empty((size, len(weight)), dtype=self.dtype, device=weight.device)
        self._slope: Tensor | None = None

    def no_values(self) -> Tensor:
        """The values of no tokens."""
        return torch.empty((self.num_values, 0), dtype=self.dtype, device=self.weight.device)

    def values(self, tokens: slice, *, keeps_graph: bool = False) -> Tensor:
        """[1 + terms, chunk]: log-probs of the targets, then each term; detached.

        Args:
            tokens: the chunk.
            keeps_graph: `gradient_of_projection` will be asked for this chunk before the next one.
        """
        logits = self._logits(tokens, keeps_slope=keeps_graph)
        return self._reading.values(logits, self.target_ids[tokens, None], tokens, keeps_graph=keeps_graph)

    def _logits(self, tokens: slice, *, keeps_slope: bool) -> Tensor:
        hidden_states = self.hidden_states[tokens]
        logits = self._buffer[: len(hidden_states)]
        _product(hidden_states, self.weight.t(), out=logits)
        if self.bias is not None:
            logits += self.bias
        if self.head.logit_scale != 1.0:
            logits *= self.head.logit_scale
        if self.head.soft_cap is not None:
            logits.div_(self.head.soft_cap).tanh_()
            # d/dx of c tanh(x / c) is 1 - tanh^2.
            self._slope = logits.square().neg_().add_(1.0) if keeps_slope else None
            logits.mul_(self.head.soft_cap)
        return logits

    def gradient_of_projection(self, tokens: slice, gradient: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The gradient of h W^T + b of the chunk whose values were asked for last, and which the buffer holds.

        Args:
            tokens: the chunk.
            gradient: [1 + terms, chunk], of its values.

        Returns:
            Matrix M [chunk, vocab], and where it is not None a factor r [chunk] for its rows and an amount a [chunk]
            to be added at the targets: the gradient is diag(r) M + a at (t, target of t).
        """
        targets = self.target_ids[tokens, None]
        left = self._buffer[: gradient.shape[1]]
        matrix, by_row, at_targets = self._reading.logit_gradient(left, targets, gradient)
        scale = self.head.logit_scale
        if self._slope is not None:
            matrix.mul_(self._slope)
            at_targets = None if at_targets is None else at_targets * self._slope.gather(1, targets)[:, 0]
        if scale != 1.0 and by_row is None:
            matrix *= scale
        by_row = None if by_row is None else by_row * scale
        return matrix, by_row, None if at_targets is None else at_targets * scale


class HeadGradients:
    """Gradients of states, weight and bias, added up chunk by chunk in float32 or wider.

    Args:
        chunks: whose gradients.
        needs: which of the three are wanted; no product is made for the others.
    """

    def __init__(self, chunks: HeadChunks, *, needs: Sequence[bool]) -> None:
        def zeros(like: Tensor | None, needed: bool) -> Tensor | None:
            if like is None or not needed:
                return None
            return torch.zeros(like.shape, dtype=chunks.dtype, device=like.device)

        self.chunks = chunks
        self.hidden_states = zeros(chunks.hidden_states, needs[0])
        # The first product is written, not added: zeros would be one more pass over the largest of the three.
        self.weight = torch.empty_like(chunks.weight, dtype=chunks.dtype) if needs[1] else None
        self._is_fresh = True
        self.bias = zeros(chunks.bias, needs[2])

    def add(self, tokens: slice, gradient: Tensor) -> None:
        """Adds those of the chunk whose values were asked for last, given the gradient [1 + terms, chunk] of these."""
        matrix, by_row, at_targets = self.chunks.gradient_of_projection(tokens, gradient)
        targets = self.chunks.target_ids[tokens]
        matrix_stored = matrix.to(self.chunks.weight.dtype)
        if self.hidden_states is not None:
            part = self.hidden_states[tokens]
            _product(matrix_stored, self.chunks.weight, out=part)
            if by_row is not None and at_targets is not None:
                part.mul_(by_row[:, None]).addcmul_(self.chunks.weight[targets].to(part.dtype), at_targets[:, None])
        states = self.chunks.hidden_states[tokens]
        if self.weight is not None:
            scaled = states if by_row is None else (states * by_row[:, None]).to(states.dtype)
            _product(matrix_stored.t(), scaled, out=self.weight, adds=not self._is_fresh)
            self._is_fresh = False
            if at_targets is not None:
                self.weight.index_add_(0, targets, states * at_targets[:, None])
        if self.bias is not None:
            self.bias += matrix.sum(0) if by_row is None else by_row @ matrix
            if at_targets is not None:
                self.bias.index_add_(0, targets, at_targets)

    def scale(self, factor: Tensor) -> None:
        """Multiplies all by a number, in place."""
        for gradient in (self.hidden_states, self.weight, self.bias):
            if gradient is not None:
                gradient.mul_(factor)

    def in_stored_dtypes(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients of states, weight and bias in the dtypes these are stored in."""
        if self.weight is not None and self._is_fresh:
            self.weight.zero_()
        found = (self.hidden_states, self.weight, self.bias)
        first, second, third = (
            None if gradient is None or dtype is None else gradient.to(dtype)
            for gradient, dtype in zip(found, self.chunks.stored_dtypes, strict=True)
        )
        return first, second, third


def _product(left: Tensor, right: Tensor, *, out: Tensor, adds: bool = False) -> None:
    """left @ right into `out`, or added to it, with sums in the dtype of `out`."""
    if left.dtype == out.dtype:
        torch.addmm(out, left, right, out=out) if adds else torch.mm(left, right, out=out)
    elif adds:
        out += torch.mm(left, right, out_dtype=out.dtype)
    else:
        out.copy_(torch.mm(left, right, out_dtype=out.dtype))
