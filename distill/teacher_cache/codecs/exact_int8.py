"""Codec `exact-int8`: rotated final hidden states in whole numbers of a step that each group of coordinates has."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.codec import Codec, TokenChunk
from distill.teacher_cache.codecs.head_products import log_probs_of, token_log_probs_of
from distill.teacher_cache.codecs.rotation import rotated, rotated_back
from distill.teacher_cache.codecs.rows import EncodedRows, as_bytes
from distill.teacher_cache.codecs.tier import CodecName

LARGEST = 127
_STEPS_AN_OCTAVE = 8
_STEP_ONE = 160  # the byte of step 1.0: steps reach from 2^-20 to 2^11.9
_BEYOND = 256


class ExactInt8Codec(Codec):
    """int8 [hidden], then the step of each group as a byte b, 2^((b - 160) / 8): hidden + groups bytes.

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
        """One byte a coordinate, one a group."""
        return self.shape.hidden_size + self.num_groups

    def measured(self, chunk: TokenChunk) -> tuple[Tensor, ...]:
        """Rotates, then rounds each coordinate to the nearest multiple of its group's step.

        The step is the smallest of those a byte can say that brings the group's largest coordinate to 127 or less.
        """
        grouped = self._grouped(rotated(chunk.hidden_states.float()))
        needed = (grouped.abs().amax(-1) / LARGEST).log2() * _STEPS_AN_OCTAVE + _STEP_ONE
        places = needed.ceil().clamp(0, _BEYOND).nan_to_num(_BEYOND).to(torch.int16)
        whole = (grouped / _step_of(places).unsqueeze(-1)).round_().clamp_(-LARGEST, LARGEST).to(torch.int8)
        return whole.flatten(1)[:, : self.shape.hidden_size], places

    def written(self, *measured: Tensor) -> EncodedRows:
        """Whole numbers, then steps.

        Raises:
            CacheError: a coordinate is not finite, or beyond what the widest step reaches.
        """
        whole, places = (values.cpu() for values in measured)
        wrong = (places == _BEYOND).any(-1).nonzero()
        if len(wrong):
            raise CacheError(
                f"the final hidden state of token {int(wrong[0])} does not fit codec exact-int8",
                why=f"a rotated coordinate is no number, or beyond {float(LARGEST * _step_of(torch.tensor(255))):,.0f}",
                fix="check that the teacher's weights are finite; store larger states as they are: cache.codec=exact",
            )
        return EncodedRows(torch.cat([as_bytes(whole), places.to(torch.uint8)], dim=1))

    def hidden_states(self, rows: EncodedRows) -> Float[Tensor, "tokens hidden"]:
        """Whole numbers times their steps, rotated back, in float32."""
        whole = self._grouped(rows.records[:, : self.shape.hidden_size].view(torch.int8).float())
        states = whole * _step_of(rows.records[:, self.shape.hidden_size :]).unsqueeze(-1)
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
        wrong = (rows.records[:, : self.shape.hidden_size].view(torch.int8) < -LARGEST).any(-1).nonzero()
        return None if len(wrong) == 0 else f"a coordinate of token {int(wrong[0])} is -128, which is never written"

    def _grouped(self, values: Tensor) -> Tensor:
        """[tokens, hidden] as [tokens, groups, group_size], zeros after the last coordinate."""
        missing = self.num_groups * self.settings.group_size - self.shape.hidden_size
        padded = torch.nn.functional.pad(values, (0, missing))
        return padded.view(len(values), self.num_groups, self.settings.group_size)


def _step_of(places: Integer[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return ((places.float() - _STEP_ONE) / _STEPS_AN_OCTAVE).exp2()
