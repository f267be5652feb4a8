"""A teacher's final hidden states at the completion tokens of some sequences: what every codec starts from."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import TokenizedSequence, batches_by_length, pad_rows, sequence_row
from distill.models import LoadedModel, final_hidden_states

MAX_BATCH_TOKENS = 4096


@dataclass(frozen=True)
class ScoredTokens:
    """What the codecs get to see: final hidden states and targets of several sequences, end to end."""

    hidden_states: Float[Tensor, "tokens hidden"]
    target_ids: Tensor
    sequence_ids: tuple[str, ...]
    lengths: tuple[int, ...]


@torch.inference_mode()
def scored_tokens(loaded: LoadedModel, sequences: Sequence[TokenizedSequence]) -> ScoredTokens:
    """Final hidden states at the completion tokens, in float32."""
    states, targets, ids, lengths = [], [], [], []
    sizes = [len(sequence.prompt_ids) + len(sequence.completion_ids) for sequence in sequences]
    for indices in batches_by_length(sizes, max_tokens=MAX_BATCH_TOKENS, max_rows=len(sequences)):
        members = [sequences[index] for index in indices]
        batch = pad_rows([sequence_row(member) for member in members], pad_id=0)
        hidden_states = final_hidden_states(
            loaded.model,
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
        )
        states.append(hidden_states[batch.completion_mask].float())
        targets.append(batch.target_ids[batch.completion_mask])
        ids += [member.sequence_id for member in members]
        lengths += [len(member.completion_ids) for member in members]
    return ScoredTokens(torch.cat(states), torch.cat(targets), tuple(ids), tuple(lengths))
