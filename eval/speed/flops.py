"""How much a step has to compute at least, and how fast the machine multiplies matrices."""

from collections.abc import Iterable

import torch

from distill.data import TokenizedPair
from eval.speed.teachers import TeacherShape

PRODUCT_SIZE = 2048
FORWARD_AND_BACKWARD = 3


def needed_flops(shape: TeacherShape, pairs: Iterable[TokenizedPair], *, kv_share: float = 1.0) -> int:
    r"""Floating-point operations of one training step that no arrangement of the work saves.

    .. math:: 3 \cdot 2 \left[ \sum_t (P + 2 d L k_t) + \sum_c d V \right]

    over the tokens t that have to be read (a prompt once, an answer's last token not at all), with P weights of the
    layers' matrices and k_t keys that t sees, and over the completion tokens c, whose logits are needed. Norms,
    softmaxes, the update and whatever is computed a second time are left out, so that a trainer that pads or
    recomputes has a lower share of the machine's peak.

    Args:
        shape: the student's.
        pairs: of the step.
        kv_share: key and value heads over query heads.

    Source:
        Kaplan et al. 2020, arXiv:2001.08361, sec. 2.1, table 1; the attention term is halved by causality.
    """
    projections = round(2 * (1 + kv_share) * shape.hidden_size**2)
    layer = projections + 3 * shape.hidden_size * shape.intermediate_size
    total = 0
    for pair in pairs:
        prompt = len(pair.chosen.prompt_ids)
        answers = [len(answer.completion_ids) for answer in (pair.chosen, pair.rejected)]
        read = prompt + sum(length - 1 for length in answers)
        keys = _causal(prompt) + sum((length - 1) * prompt + _causal(length - 1) for length in answers)
        body = shape.num_layers * (layer * read + 2 * shape.hidden_size * keys)
        total += body + shape.hidden_size * shape.vocab_size * sum(answers)
    return FORWARD_AND_BACKWARD * 2 * total


def _causal(length: int) -> int:
    """Keys that `length` tokens see of each other."""
    return length * (length + 1) // 2


class MatrixProduct:
    """The largest product that the peak is measured by: square, of float32 or another dtype."""

    def __init__(
        self, size: int = PRODUCT_SIZE, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> None:
        self._left = torch.randn(size, size, device=device).to(dtype)
        self._out = torch.empty_like(self._left)

    @staticmethod
    def flops_of(size: int) -> int:
        """Of one product."""
        return 2 * size**3

    def run(self) -> None:
        """One product."""
        torch.mm(self._left, self._left, out=self._out)
