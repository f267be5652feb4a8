"""The student as training sees it: logits at the positions the loss counts, and nowhere else."""

from typing import cast

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from distill.models.adapters import LanguageModel
from distill.models.head import final_hidden_states, head_module, output_head, scale_and_soft_cap
from distill.objectives.output_head import scaled_and_capped


class StudentModule(nn.Module):
    """Runs the backbone on whole sequences and the head on completion positions only.

    The head is *called*, not read, so that whatever gathers spread weights around a module's call (ZeRO-3) works.

    Args:
        model: a causal language model, with or without adapters; its parameters become this module's.

    Raises:
        ModelError: its logits cannot be made from its final hidden states (`output_head`).
    """

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        output_head(model)
        self.model = model
        self._logit_scale, self._soft_cap = scale_and_soft_cap(model)

    def forward(
        self,
        input_ids: Int[Tensor, "batch sequence"],
        attention_mask: Bool[Tensor, "batch sequence"],
        position_ids: Int[Tensor, "batch sequence"],
        completion_mask: Bool[Tensor, "batch sequence"],
    ) -> Float[Tensor, "tokens vocab"]:
        """Logits in float32 or wider where `completion_mask` holds, row after row."""
        hidden_states = final_hidden_states(
            self.model, input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids
        )
        projected = cast(Tensor, head_module(self.model)(hidden_states[completion_mask]))
        return scaled_and_capped(projected, logit_scale=self._logit_scale, soft_cap=self._soft_cap)
