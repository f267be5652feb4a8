"""Codec `exact-int8`: rotated final hidden states in whole numbers of a step that each group of coordinates has."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.codec import Codec, TokenChunk
from distill.teacher_cache.codecs.head_products import log_probs_of, not_finite, token_log_probs_of
from distill.teacher_cache.codecs.rotation import rotated, rotated_back
from distill.teacher_cache.codecs.rows import EncodedRows, as_bytes, as_values
from distill.teacher_cache.codecs.tier import CodecName

LARGEST = 127


class ExactInt8Codec(Codec):
    """int8 [hidden], then one bfloat16 step for each group: hidden + 2 * groups bytes.

    States are rotated first: the few channels in which a trained model is large would else coarsen their groups.
    """

    name: ClassVar[CodecName] = "exact-int8"
    needs_logits = False
    needs_head = True
    has_distributions = True
    summary = "the final hidden state of each completion token in 8 bits, the output head once"

    @property
    def num_groups(self) -> int:
        """Groups of coordinates; the last may be shorter."""
        return -(-self.shape.hidden_size // self.settings.group_size)

    @property
    def row_bytes(self) -> int:
        """One byte a coordinate, two a group."""
        return self.shape.hidden_size + 2 * self.num_groups

    def measured(self, chunk: TokenChunk) -> tuple[Tensor, ...]:
        """Rotates, then rounds each coordinate to the nearest multiple of its group's step, largest / 127 in bfloat16.

        The rounded step is at most 1/257 too small, so the largest quotient stays below 127.5: no coordinate is cut.
        """
        grouped = self._grouped(rotated(chunk.hidden_states.float()))
        steps = (grouped.abs().amax(-1) / LARGEST).bfloat16()
        divisors = torch.where(steps == 0, 1.0, steps.float()).unsqueeze(-1)
        whole = (grouped / divisors).round_().clamp_(-LARGEST, LARGEST).to(torch.int8)
        return whole.flatten(1)[:, : self.shape.hidden_size], steps

    def written(self, *measured: Tensor) -> EncodedRows:
        """Whole numbers, then steps."""
        whole, steps = measured
        return EncodedRows(torch.cat([as_bytes(whole), as_bytes(steps)], dim=1).cpu())

    def hidden_states(self, rows: EncodedRows) -> Float[Tensor, "tokens hidden"]:
        """Whole numbers times their steps, rotated back, in float32."""
        whole = self._grouped(rows.records[:, : self.shape.hidden_size].view(torch.int8).float())
        states = whole * self._steps(rows).float().unsqueeze(-1)
        return rotated_back(states.flatten(1)[:, : self.shape.hidden_size])

    def token_log_probs(
        self, rows: EncodedRows, target_ids: Int[Tensor, " tokens"], *, head: OutputHead | None
    ) -> Float[Tensor, " tokens"]:
        """Through the head, a chunk at a time."""
        return token_log_probs_of(self.hidden_states(rows), target_ids, head=head)

    def log_probs(self, rows: EncodedRows, *, head: OutputHead | None) -> Float[Tensor, "tokens vocab"]:
        """log_softmax(head(h))."""
        return log_probs_of(self.hidden_states(rows), head=head)

    def _check_numbers(self, rows: EncodedRows) -> str | None:
        steps = self._steps(rows)
        wrong = not_finite("step", steps)
        if wrong is None and bool((steps < 0).any()):
            wrong = f"the step of token {int((steps < 0).any(-1).nonzero()[0])} is negative"
        return wrong

    def _steps(self, rows: EncodedRows) -> Tensor:
        return as_values(rows.records[:, self.shape.hidden_size :], torch.bfloat16)

    def _grouped(self, values: Tensor) -> Tensor:
        """[tokens, hidden] as [tokens, groups, group_size], zeros after the last coordinate."""
        missing = self.num_groups * self.settings.group_size - self.shape.hidden_size
        padded = torch.nn.functional.pad(values, (0, missing))
        return padded.view(len(values), self.num_groups, self.settings.group_size)
