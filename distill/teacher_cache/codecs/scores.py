"""Codec `scores`: the log-prob of each completion token."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.codec import Codec, TokenChunk
from distill.teacher_cache.codecs.rows import EncodedRows, as_bytes, as_values
from distill.teacher_cache.codecs.tier import CodecName


class ScoresCodec(Codec):
    """float32 log-prob of the completion token: 4 bytes."""

    name: ClassVar[CodecName] = "scores"
    needs_logits = True
    needs_head = False
    has_distributions = False
    summary = "the log-prob of each completion token"

    @property
    def row_bytes(self) -> int:
        """Four."""
        return 4

    def measured(self, chunk: TokenChunk) -> tuple[Tensor, ...]:
        """Target's logit minus logsumexp."""
        logits = chunk.logits.gather(-1, chunk.target_ids.long().unsqueeze(-1))
        return (chunk.log_probs_of(logits).squeeze(-1),)

    def written(self, *measured: Tensor) -> EncodedRows:
        """The log-probs as they are."""
        (log_probs,) = measured
        return self.rows_of(log_probs)

    def rows_of(self, log_probs: Float[Tensor, " tokens"]) -> EncodedRows:
        """Log-probs that are at hand, as bytes."""
        return EncodedRows(as_bytes(log_probs.float().unsqueeze(-1)).cpu())

    def token_log_probs(
        self, rows: EncodedRows, target_ids: Int[Tensor, " tokens"], *, head: OutputHead | None = None
    ) -> Float[Tensor, " tokens"]:
        """What was stored; `target_ids` must be the completion's own."""
        return as_values(rows.records, torch.float32)[:, 0]

    def _check_numbers(self, rows: EncodedRows) -> str | None:
        values = as_values(rows.records, torch.float32)[:, 0]
        # A log-prob is at most 0; other ways to compute it in float32 may miss that by the rounding of large logits.
        wrong = (~values.isfinite() | (values > 1e-2)).nonzero()
        return None if len(wrong) == 0 else f"the log-prob of token {int(wrong[0])} is {float(values[wrong[0, 0]])}"
