"""Codec `logits-bf16`: the log-prob of every token of the vocabulary, rounded to bfloat16."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.numerics import log_softmax
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.codec import MAX_LOGITS, Codec, TokenChunk
from distill.teacher_cache.codecs.rows import EncodedRows, as_bytes, as_values
from distill.teacher_cache.codecs.tier import CodecName


class LogitsBf16Codec(Codec):
    """Log-probs, not raw logits: likely tokens lie near 0, where bfloat16 is finest. 2 bytes a token id."""

    name: ClassVar[CodecName] = "logits-bf16"
    needs_logits = True
    needs_head = False
    has_distributions = True
    summary = "the log-probs of the whole vocabulary in bfloat16"

    @property
    def row_bytes(self) -> int:
        """Two for each row of the head."""
        return 2 * self.shape.vocab_size

    def measured(self, chunk: TokenChunk) -> tuple[Tensor, ...]:
        """Rounding to nearest, ties to even."""
        return ((chunk.logits - chunk.log_normalisers).bfloat16(),)

    def written(self, *measured: Tensor) -> EncodedRows:
        """The rounded log-probs as they are."""
        (log_probs,) = measured
        return EncodedRows(as_bytes(log_probs.cpu()))

    def token_log_probs(
        self, rows: EncodedRows, target_ids: Int[Tensor, " tokens"], *, head: OutputHead | None = None
    ) -> Float[Tensor, " tokens"]:
        """From the distribution made to sum to one again."""
        step = max(1, MAX_LOGITS // self.shape.vocab_size)
        parts = zip(torch.split(rows.records, step), torch.split(target_ids.long(), step), strict=True)
        return torch.cat(
            [self._log_probs(records).gather(-1, targets.unsqueeze(-1))[:, 0] for records, targets in parts]
        )

    def log_probs(self, rows: EncodedRows, *, head: OutputHead | None = None) -> Float[Tensor, "tokens vocab"]:
        """The stored values made to sum to one again: rounded, they miss it by some thousandths."""
        return self._log_probs(rows.records)

    def _log_probs(self, records: Tensor) -> Tensor:
        return log_softmax(as_values(records, torch.bfloat16))

    def _check_numbers(self, rows: EncodedRows) -> str | None:
        values = as_values(rows.records, torch.bfloat16)
        # -inf is a log-prob: what the teacher rules out. A row of nothing else sums to zero.
        wrong = values.isnan().any(-1) | (values > 0.01).any(-1) | (values.amax(-1) == -torch.inf)
        return (
            None if not bool(wrong.any()) else f"the log-probs of token {int(wrong.nonzero()[0])} are no distribution"
        )
