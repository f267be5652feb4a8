"""One shard's sequences through the teacher: batches in, log-probs and hidden states out."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data import SequenceBatch, batches_by_length, pad_rows, sequence_row
from distill.errors import CacheError
from distill.models import LoadedModel, final_hidden_states
from distill.numerics import token_log_probs, widened
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.plan import PlannedSequence
from distill.teacher_cache.shard import ScoredSequence

# Logits held at once by the head product: 64 MiB in float32.
MAX_LOGITS = 2**24


def float_head(head: OutputHead) -> OutputHead:
    """The head with its tensors widened once, instead of once per product."""
    bias = None if head.bias is None else widened(head.bias)
    return OutputHead(widened(head.weight), bias, head.logit_scale, head.soft_cap)


def score_shard(
    loaded: LoadedModel,
    sequences: Sequence[PlannedSequence],
    *,
    head: OutputHead,
    max_batch_tokens: int,
    hidden_dtype: torch.dtype | None,
) -> list[ScoredSequence]:
    """Scores sequences in batches of like length; the result stands in their order.

    Args:
        loaded: the teacher, in evaluation mode.
        sequences: one shard's.
        head: the teacher's, widened.
        max_batch_tokens: longest row times rows of one forward pass.
        hidden_dtype: what hidden states are rounded to, after the log-probs were computed from the unrounded
            ones; None keeps none.

    Raises:
        CacheError: the teacher's log-probs of a sequence are not finite; names it.
    """
    scored: dict[int, ScoredSequence] = {}
    lengths = [planned.length for planned in sequences]
    for batch_indices in batches_by_length(lengths, max_tokens=max_batch_tokens, max_rows=len(sequences)):
        members = [sequences[index] for index in batch_indices]
        hidden_states, log_probs = _score_batch(loaded, members, head=head)
        counts = [planned.num_tokens for planned in members]
        values = torch.split(log_probs.cpu(), counts)
        states: Sequence[Tensor | None] = [None] * len(members)
        if hidden_dtype is not None:
            states = torch.split(hidden_states.to(hidden_dtype).cpu(), counts)
        for index, planned, own_values, own_states in zip(batch_indices, members, values, states, strict=True):
            _refuse_not_finite(planned, own_values)
            ids = torch.tensor(planned.sequence.completion_ids, dtype=torch.int32)
            scored[index] = ScoredSequence(planned.id, ids, own_values, own_states)
    return [scored[index] for index in range(len(sequences))]


def completion_log_probs(
    hidden_states: Float[Tensor, "tokens hidden"],
    target_ids: Int[Tensor, " tokens"],
    *,
    head: OutputHead,
    max_logits: int = MAX_LOGITS,
) -> Float[Tensor, " tokens"]:
    """Log-prob of each target in nats; the head product never holds more than `max_logits` numbers, or one row."""
    rows = max(1, max_logits // head.weight.shape[0])
    pairs = zip(torch.split(hidden_states, rows), torch.split(target_ids, rows), strict=True)
    return torch.cat([token_log_probs(head.logits(states), targets) for states, targets in pairs])


@torch.inference_mode()
def _score_batch(
    loaded: LoadedModel, members: Sequence[PlannedSequence], *, head: OutputHead
) -> tuple[Float[Tensor, "tokens hidden"], Float[Tensor, " tokens"]]:
    """Final hidden states and log-probs of the completion tokens, row after row."""
    pad_id = loaded.tokenizer.pad_token_id
    batch: SequenceBatch = pad_rows(
        [sequence_row(planned.sequence) for planned in members], pad_id=0 if pad_id is None else int(pad_id)
    ).to(head.weight.device)
    hidden_states = final_hidden_states(
        loaded.model,
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
    )[batch.completion_mask]
    return hidden_states, completion_log_probs(hidden_states, batch.target_ids[batch.completion_mask], head=head)


def _refuse_not_finite(planned: PlannedSequence, log_probs: Float[Tensor, " tokens"]) -> None:
    wrong = (~log_probs.isfinite()).nonzero().flatten().tolist()
    if wrong:
        raise CacheError(
            f"the teacher's log-prob of completion token {wrong[0]} of sequence {planned.id[:12]} is "
            f"{float(log_probs[wrong[0]])}",
            why="one such number makes every loss that meets it not finite",
            fix="load the teacher with teacher.dtype=float32 and check that its weights are finite",
        )
