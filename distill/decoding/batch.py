"""Prompts that are answered together: one key-value cache, from which finished rows are dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from distill.models.adapters import LanguageModel, without_adapters

if TYPE_CHECKING:
    from transformers import DynamicCache

# Finished rows leave the batch once they are this share of it: each time costs one copy of the cache.
FINISHED_SHARE_TO_DROP = 0.25


@dataclass
class RunningBatch:
    """The state between two steps; row r of every tensor belongs to prompt `rows[r]` of the batch.

    `logits` are those of the next token, `position_ids` that token's position.
    """

    rows: Int[Tensor, " batch"]
    is_finished: Bool[Tensor, " batch"]
    attention_mask: Int[Tensor, "batch sequence"]
    position_ids: Int[Tensor, "batch 1"]
    logits: Float[Tensor, "batch vocab"]
    cache: "DynamicCache"

    @classmethod
    def start(cls, prompts: Sequence[Sequence[int]], *, model: LanguageModel) -> Self:
        """Reads the prompts, padded on the left so that all end in the same column."""
        from transformers import DynamicCache

        width = max(len(prompt) for prompt in prompts)
        input_ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        lengths = torch.tensor([[len(prompt)] for prompt in prompts])
        attention_mask = (torch.arange(width) >= width - lengths).long().to(model.device)
        position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=without_adapters(model).config)
        logits = _forward(model, input_ids.to(model.device), attention_mask, position_ids, cache)
        rows = torch.arange(len(prompts), device=model.device)
        is_finished = torch.zeros_like(rows, dtype=torch.bool)
        return cls(rows, is_finished, attention_mask, position_ids[:, -1:] + 1, logits, cache)

    def advance(self, tokens: Int[Tensor, " batch"], *, model: LanguageModel) -> None:
        """Reads one more token of each row."""
        seen = self.attention_mask.new_ones(len(tokens), 1)
        self.attention_mask = torch.cat([self.attention_mask, seen], dim=-1)
        self.logits = _forward(model, tokens.unsqueeze(-1), self.attention_mask, self.position_ids, self.cache)
        self.position_ids = self.position_ids + 1

    def drop_finished(self) -> Int[Tensor, " kept"] | None:
        """Takes finished rows out once there are enough of them; returns which rows stay, `None` if all do."""
        is_running = ~self.is_finished
        if int(self.is_finished.sum()) < FINISHED_SHARE_TO_DROP * len(self.rows):
            return None
        kept = is_running.nonzero().squeeze(-1)
        self.rows, self.is_finished = self.rows[kept], self.is_finished[kept]
        self.attention_mask, self.position_ids = self.attention_mask[kept], self.position_ids[kept]
        self.cache.batch_select_indices(kept)
        return kept


def _forward(
    model: LanguageModel,
    input_ids: Int[Tensor, "batch new"],
    attention_mask: Int[Tensor, "batch sequence"],
    position_ids: Int[Tensor, "batch new"],
    cache: "DynamicCache",
) -> Float[Tensor, "batch vocab"]:
    output = model(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return cast(Tensor, output.logits[:, -1])
