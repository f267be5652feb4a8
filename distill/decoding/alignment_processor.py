"""Linear Alignment inside transformers' own `generate`: a logits processor over both readings of each dialogue."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data.records import Message
from distill.data.templates import render_prompt
from distill.decoding.linear_alignment import LinearAlignmentSettings, steered_tokens
from distill.decoding.principle import contexts
from distill.errors import DataError
from distill.models.load import LoadedModel


class LinearAlignmentProcessor:
    """Chooses the next token of each answer, the same for both readings.

    For a batch as `paired_inputs` makes it: all dialogues with the principle, then all without. The scores it returns
    leave the chosen token only, so that greedy search and sampling both take it, whatever warpers follow::

        inputs = paired_inputs(loaded, prompts, principle="Be kind.")
        processor = LinearAlignmentProcessor(LinearAlignmentSettings(ratio=2.0), temperature=0.7, seed=0)
        ids = loaded.model.generate(**inputs, logits_processor=[processor], do_sample=False)[: len(prompts)]

    Args:
        settings: how far the principle steers, and the nucleus; its `principle` and `contrast` are not read here.
        temperature: 0 takes the likeliest token.
        seed: of the draws.
    """

    def __init__(self, settings: LinearAlignmentSettings, *, temperature: float = 0.0, seed: int = 0) -> None:
        self._settings, self._temperature = settings, temperature
        self._random = torch.Generator().manual_seed(seed)
        self._width: int | None = None

    def __call__(
        self, input_ids: Int[Tensor, "contexts sequence"], scores: Float[Tensor, "contexts vocab"]
    ) -> Float[Tensor, "contexts vocab"]:
        """0 for the chosen token of each row, -inf for all others.

        Raises:
            DataError: the rows are no two readings, or received different tokens (beams do that).
        """
        self._require_two_readings(input_ids)
        draws = torch.rand(len(scores) // 2, generator=self._random).to(scores.device)
        tokens = steered_tokens(scores, draws, settings=self._settings, temperature=self._temperature)
        chosen = torch.full_like(scores, -torch.inf)
        return chosen.scatter(-1, tokens.repeat(2).unsqueeze(-1), 0.0)

    def _require_two_readings(self, input_ids: Int[Tensor, "contexts sequence"]) -> None:
        fix = "generate(**paired_inputs(...), num_beams=1)"
        if len(input_ids) % 2:
            raise DataError(
                f"{len(input_ids)} rows came to Linear Alignment",
                why="it needs each dialogue twice: all with the principle, then all without",
                fix=fix,
            )
        width, self._width = self._width, input_ids.shape[-1]
        if width is None or input_ids.shape[-1] <= width:
            return
        first, second = input_ids[:, width:].chunk(2)
        if not torch.equal(first, second):
            raise DataError(
                "the two readings of a dialogue received different tokens",
                why="their logits can be compared only after the same answer; beam search reorders them",
                fix=fix,
            )


def paired_inputs(
    loaded: LoadedModel, prompts: Sequence[Sequence[Message]], *, principle: str | None, contrast: str | None = None
) -> dict[str, Int[Tensor, "contexts sequence"]]:
    """`input_ids` and `attention_mask` of all dialogues with the principle, then all without, padded on the left.

    Raises:
        DataError: no principle is given, and a dialogue has no system message.
    """
    pairs = [contexts(prompt, principle, contrast=contrast) for prompt in prompts]
    rows = [render_prompt(loaded.tokenizer, pair[side]) for side in (0, 1) for pair in pairs]
    width = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.arange(width) >= torch.tensor([[width - len(row)] for row in rows])
    return {"input_ids": ids.to(loaded.model.device), "attention_mask": mask.long().to(loaded.model.device)}
