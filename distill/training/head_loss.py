"""The objective as a loss on final hidden states: head, log-probs, divergences and gradients, pair by pair."""

from jaxtyping import Float
from torch import Tensor

from distill.models.packed_student import Contributions, HeadLoss
from distill.numerics import segment_sum
from distill.objectives import OutputHead, PairTerms, SftSettings, TokenValues, pair_loss, sft_token_loss
from distill.objectives.fused import BlockLoss, fused_block_loss
from distill.objectives.table import ObjectiveSettings
from distill.objectives.token_losses import PairSettings
from distill.training.chunk_terms import chunk_terms
from distill.training.feed import Counts, MicroBatch
from distill.training.readings import Readings

MAX_LOGITS = {"cpu": 2**24, "cuda": 2**28}
"""Logits of one chunk: a CPU gains nothing from more, a GPU works on them all at once."""


def head_loss(
    objective: ObjectiveSettings,
    micro_batch: MicroBatch,
    counts: Counts,
    *,
    teacher_head: OutputHead | None = None,
    readings: Readings | None = None,
) -> HeadLoss:
    """What one pass adds to the loss and to each metric of its global batch: its sum over the global count.

    Means are over completion tokens for `sft`, over pairs for the others, over answers where they carry
    weights. A pass that does not count adds zeros.

    Args:
        objective: the recipe's choice.
        micro_batch: targets and cached scores, on the device of the hidden states.
        counts: of the global batch.
        teacher_head: needed where `micro_batch` carries the teacher's hidden states.
        readings: of this pass; gets what the loss says of each example.
    """

    def of_states(hidden_states: Float[Tensor, "tokens hidden"], head: OutputHead) -> Contributions:
        if micro_batch.answer_weights is not None:
            result = _weighted(hidden_states, head, micro_batch, counts, readings)
        elif isinstance(objective, SftSettings):
            result = _sft(hidden_states, head, micro_batch, counts, readings)
        else:
            result = _PairsLoss(objective, micro_batch, counts, teacher_head, readings).of(hidden_states, head)
        contributions = {"loss": result.loss, **result.quantities}
        if micro_batch.is_counted:
            return contributions
        return {name: 0.0 * value for name, value in contributions.items()}

    return of_states


def _sft(
    hidden_states: Tensor, head: OutputHead, micro_batch: MicroBatch, counts: Counts, readings: Readings | None
) -> BlockLoss:
    def loss(values: Tensor, tokens: slice, blocks: slice) -> BlockLoss:
        if readings is not None:
            readings.put_dialogues(values[0], tokens)
        return BlockLoss(sft_token_loss(values[0]).sum() / counts.num_completion_tokens, {})

    # A token needs nothing of another, so that any run of tokens is a block.
    return fused_block_loss(hidden_states, head, micro_batch.target_ids, loss=loss, max_logits=_max_logits(head))


def _weighted(
    hidden_states: Tensor, head: OutputHead, micro_batch: MicroBatch, counts: Counts, readings: Readings | None
) -> BlockLoss:
    """-weight times log-prob, a mean over answers: with the weights of f-DPG, `f_dpg_loss`."""
    assert micro_batch.answer_weights is not None
    token_weights = micro_batch.answer_weights[micro_batch.token_answers]

    def loss(values: Tensor, tokens: slice, blocks: slice) -> BlockLoss:
        if readings is not None:
            readings.put_dialogues(values[0], tokens)
        return BlockLoss(-(token_weights[tokens] * values[0]).sum() / counts.num_examples, {})

    return fused_block_loss(hidden_states, head, micro_batch.target_ids, loss=loss, max_logits=_max_logits(head))


class _PairsLoss:
    """A pair objective on the tokens of some whole pairs: chosen, rejected, chosen, ... in the order of the pass."""

    def __init__(
        self,
        objective: PairSettings,
        micro_batch: MicroBatch,
        counts: Counts,
        teacher_head: OutputHead | None,
        readings: Readings | None,
    ) -> None:
        self.objective, self.micro_batch, self.counts = objective, micro_batch, counts
        self.teacher_head, self.readings = teacher_head, readings

    def of(self, hidden_states: Tensor, head: OutputHead) -> BlockLoss:
        """The loss of the whole pass."""
        terms = chunk_terms(
            self.objective,
            self.micro_batch.teacher_rows,
            is_chosen=self.micro_batch.token_answers % 2 == 0,
            student=head,
            teacher=self.teacher_head,
        )
        return fused_block_loss(
            hidden_states,
            head,
            self.micro_batch.target_ids,
            block_sizes=self.micro_batch.block_sizes,
            loss=self._of_pairs,
            terms=terms,
            max_logits=_max_logits(head),
        )

    def _of_pairs(self, values: Tensor, tokens: slice, pairs: slice) -> BlockLoss:
        answers = self.micro_batch.token_answers[tokens] - 2 * pairs.start
        num_pairs = pairs.stop - pairs.start
        terms = pair_terms(self.micro_batch, segment_sum(values[0], answers, 2 * num_pairs), pairs)
        token_values = None
        rows = self.micro_batch.teacher_rows
        if rows is not None:
            is_told = None if rows.is_told is None else rows.is_told[tokens]
            token_values = TokenValues(values[1], answers // 2, answers % 2 == 0, is_told)
        result = pair_loss(self.objective, terms, tokens=token_values)
        assert result.loss.shape == (num_pairs,)
        if self.readings is not None:
            self.readings.put_pairs(values[0], result.loss, tokens, pairs)
        logged = {
            **result.quantities,
            "chosen_log_prob": terms.policy_chosen_log_probs.detach(),
            "rejected_log_prob": terms.policy_rejected_log_probs.detach(),
        }
        share = 1.0 / self.counts.num_examples
        return BlockLoss(result.loss.sum() * share, {name: value.sum() * share for name, value in logged.items()})


def pair_terms(micro_batch: MicroBatch, policy: Float[Tensor, " answers"], pairs: slice) -> PairTerms:
    """Log-probs and counts of some whole pairs of a pass, of chosen and of rejected answers.

    Args:
        micro_batch: the pass.
        policy: the student's log-probs of the answers of these pairs.
        pairs: which.
    """

    def halves(values: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        if values is None:
            return None, None
        both = values[2 * pairs.start : 2 * pairs.stop]
        return both[0::2], both[1::2]

    reference = halves(micro_batch.reference_log_probs)
    teacher = halves(micro_batch.teacher_log_probs)
    own = halves(micro_batch.answer_lengths)
    teachers = halves(micro_batch.teacher_lengths)
    return PairTerms(
        policy_chosen_log_probs=policy[0::2],
        policy_rejected_log_probs=policy[1::2],
        reference_chosen_log_probs=reference[0],
        reference_rejected_log_probs=reference[1],
        teacher_chosen_log_probs=teacher[0],
        teacher_rejected_log_probs=teacher[1],
        num_chosen_tokens=own[0],
        num_rejected_tokens=own[1],
        num_teacher_chosen_tokens=teachers[0],
        num_teacher_rejected_tokens=teachers[1],
    )


def _max_logits(head: OutputHead) -> int:
    return MAX_LOGITS.get(head.weight.device.type, MAX_LOGITS["cuda"])
