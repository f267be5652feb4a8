"""The student as training sees it: packed rows in, a loss out; logits exist a chunk at a time, inside the loss."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias, cast

from jaxtyping import Int
from torch import Tensor, nn

from distill.data.prompt_packs import PackedBatch
from distill.models.adapters import LanguageModel
from distill.models.head import head_module, output_head, scale_and_soft_cap
from distill.models.packed import PackForm, pack_form, packed_states
from distill.objectives.output_head import OutputHead

Contributions: TypeAlias = dict[str, Tensor]
HeadLoss: TypeAlias = Callable[[Tensor, OutputHead], Contributions]
"""(final hidden states [tokens, hidden], the head) -> what they add to the loss and to each figure that is logged."""


class PackedStudent(nn.Module):
    """Runs the backbone on packed rows and a loss where the head would make logits.

    The loss runs as the head module's own call, so that whatever gathers spread weights around a module's call
    (ZeRO-3) gathers the head for it.

    Args:
        model: a causal language model, with or without adapters; its parameters become this module's.
        longest: tokens of the longest sequence to come.

    Raises:
        ModelError: its logits cannot be made from its final hidden states, or adapters change its head.
    """

    def __init__(self, model: LanguageModel, *, longest: int) -> None:
        super().__init__()
        output_head(model)
        was_training = model.training
        self.form: PackForm | None = pack_form(model.eval(), longest=longest)
        self.model = model.train(was_training)
        self._scale, self._soft_cap = scale_and_soft_cap(model)

    def forward(
        self,
        batch: PackedBatch,
        loss: HeadLoss,
        *,
        is_branched: bool = True,
        runs: Int[Tensor, "runs 2"] | None = None,
    ) -> Contributions:
        """What `loss` says of the states that predict the completion tokens of `batch`, in its order.

        Args:
            batch: laid out as `form` asks.
            loss: gets the states and the head, whose weight and bias carry gradients where they are trained.
            is_branched: `batch.is_branched`, known without asking the device.
            runs: `runs_of(batch)`, on the CPU, for the form `by_runs`.
        """
        form = self.form if is_branched or self.form == "by_runs" else None
        hidden_states = packed_states(self.model, batch, form=form, runs=runs)
        head = head_module(self.model)
        with _calling(head, lambda states: loss(states, self._as_head(head))):
            return cast(Contributions, head(hidden_states))

    def _as_head(self, module: nn.Linear) -> OutputHead:
        return OutputHead(module.weight, module.bias, self._scale, self._soft_cap)


@contextmanager
def _calling(module: nn.Module, function: Callable[[Tensor], Contributions]) -> Iterator[None]:
    """Inside the block a call of `module` runs its hooks around `function` in place of its own forward pass."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = function
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before
