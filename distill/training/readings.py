"""What one forward pass says of each of its examples, kept apart: for checks, and for a step that cannot be taken."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.numerics import segment_sum
from distill.training.feed import MicroBatch


@dataclass(frozen=True)
class Readings:
    """One pass in figures, which `head_loss` fills in block by block; nan until then.

    `losses` has the loss of each example, not divided by any count; of a dialogue the mean over its tokens.
    """

    micro_batch: MicroBatch
    token_log_probs: Float[Tensor, " tokens"]
    losses: Float[Tensor, " examples"]

    @staticmethod
    def of(micro_batch: MicroBatch) -> "Readings":
        """Places for the figures of a pass."""
        device = micro_batch.token_answers.device
        return Readings(
            micro_batch,
            torch.full((len(micro_batch.token_answers),), torch.nan, device=device),
            torch.full((len(micro_batch.example_ids),), torch.nan, device=device),
        )

    @property
    def log_probs(self) -> Float[Tensor, " answers"]:
        """The student's log-prob of each answer in nats, numbered as the pass numbers them."""
        micro_batch = self.micro_batch
        return segment_sum(self.token_log_probs, micro_batch.token_answers, len(micro_batch.answer_lengths))

    def put_pairs(self, token_log_probs: Tensor, losses: Float[Tensor, " pairs"], tokens: slice, pairs: slice) -> None:
        """Fills in some whole pairs."""
        self.token_log_probs[tokens] = token_log_probs.detach().float()
        self.losses[pairs] = losses.detach().float()

    def put_dialogues(self, token_log_probs: Tensor, tokens: slice) -> None:
        """Fills in some tokens of dialogues, each of which is an example with one answer."""
        self.token_log_probs[tokens] = token_log_probs.detach().float()
        self.losses.copy_(-self.log_probs / self.micro_batch.answer_lengths)


def worst_first(losses: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """(Example, loss) with the largest loss first, before it those that are no number."""
    is_number = {True: 1, False: 0}
    return sorted(losses, key=lambda pair: (is_number[pair[1] == pair[1]], -pair[1] if pair[1] == pair[1] else 0.0))
