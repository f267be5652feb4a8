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
    keeps_hidden_states: bool,
    hidden_dtype: torch.dtype,
) -> list[ScoredSequence]:
    """Scores sequences in batches of like length; the result stands in their order.

    Args:
        loaded: the teacher, in evaluation mode.
        sequences: one shard's.
        head: the teacher's, widened.
        max_batch_tokens: longest row times rows of one forward pass.
        keeps_hidden_states: whether hidden states are returned.
        hidden_dtype: what they are rounded to, after the log-probs were computed from the unrounded ones.

    Raises:
        CacheError: the teacher's log-probs of a sequence are not finite; names it.
    """
    scored: dict[int, ScoredSequence] = {}
    lengths = [planned.length for planned in sequences]
    for batch_indices in batches_by_length(lengths, max_tokens=max_batch_tokens, max_rows=len(sequences)):
        members = [sequences[index] for index in batch_indices]
        hidden_states, log_probs = _score_batch(loaded, members, head=head)
        if not keeps_hidden_states:
            hidden_states = hidden_states[:, :0]
        kept = hidden_states.to(hidden_dtype).cpu()
        counts = [planned.num_tokens for planned in members]
        parts = zip(batch_indices, members, kept.split(counts), log_probs.cpu().split(counts), strict=True)
        for index, planned, states, values in parts:
            _refuse_not_finite(planned, values)
            ids = torch.tensor(planned.sequence.completion_ids, dtype=torch.int32)
            scored[index] = ScoredSequence(planned.id, ids, values, states if keeps_hidden_states else None)
    return [scored[index] for index in range(len(sequences))]


def completion_log_probs(
    hidden_states: Float[Tensor, "tokens hidden"], target_ids: Int[Tensor, " tokens"], *, head: OutputHead
) -> Float[Tensor, " tokens"]:
    """Log-prob of each target in nats, the head applied to some rows at a time."""
    rows = max(1, MAX_LOGITS // head.weight.shape[0])
    pairs = zip(hidden_states.split(rows), target_ids.split(rows), strict=True)
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
