"""Codec `exact`: the final hidden state of each token; the head, stored once, makes the distribution of it."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.codec import Codec, TokenChunk
from distill.teacher_cache.codecs.head_products import log_probs_of, not_finite, token_log_probs_of
from distill.teacher_cache.codecs.rows import EncodedRows, as_bytes, as_values
from distill.teacher_cache.codecs.tier import HIDDEN_DTYPES, CodecName


class ExactCodec(Codec):
    """The hidden state in `hidden_dtype`: 2 or 4 bytes a coordinate."""

    name: ClassVar[CodecName] = "exact"
    needs_logits = False
    needs_head = True
    has_distributions = True
    summary = "the final hidden state of each completion token, the output head once"

    @property
    def row_bytes(self) -> int:
        """Coordinates times the width of one."""
        return self.shape.hidden_size * self._dtype.itemsize

    def measured(self, chunk: TokenChunk) -> tuple[Tensor, ...]:
        """Rounding to nearest, ties to even."""
        return (chunk.hidden_states.to(self._dtype),)

    def written(self, *measured: Tensor) -> EncodedRows:
        """The rounded states as they are."""
        (states,) = measured
        return EncodedRows(as_bytes(states.cpu()))

    def hidden_states(self, rows: EncodedRows) -> Float[Tensor, "tokens hidden"]:
        """The states as stored, in float32."""
        return as_values(rows.records, self._dtype).float()

    def token_log_probs(
        self, rows: EncodedRows, target_ids: Int[Tensor, " tokens"], *, head: OutputHead | None
    ) -> Float[Tensor, " tokens"]:
        """Through the head, a chunk at a time."""
        return token_log_probs_of(self.hidden_states(rows), target_ids, head=head)

    def log_probs(self, rows: EncodedRows, *, head: OutputHead | None) -> Float[Tensor, "tokens vocab"]:
        """log_softmax(head(h))."""
        return log_probs_of(self.hidden_states(rows), head=head)

    def _check_numbers(self, rows: EncodedRows) -> str | None:
        return not_finite("hidden state", as_values(rows.records, self._dtype))

    @property
    def _dtype(self) -> torch.dtype:
        return HIDDEN_DTYPES[self.settings.hidden_dtype]
