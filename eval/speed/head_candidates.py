"""Ways from hidden states to a loss and its gradients: ours, TRL's, Liger's, and the products alone."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from distill.numerics import widened
from distill.objectives import HiddenStateRows, KdSettings, OutputHead, part_of_rows, token_divergences
from distill.objectives.dadpo import dadpo_loss
from distill.objectives.fused import BlockLoss, fused_block_loss, fused_token_log_probs
from distill.training.head_loss import MAX_LOGITS
from eval.speed.peak_memory import PeakMemory
from eval.speed.train_work import BETA

PAIRS, WHOLE = "log-probs of pairs", "forward KL from the teacher's states"


@dataclass(frozen=True)
class HeadShape:
    """Completion tokens of pairs, and both heads."""

    num_tokens: int = 8192
    hidden_size: int = 4096
    teacher_hidden_size: int = 4096
    vocab_size: int = 151_936
    answer_tokens: int = 256
    dtype: torch.dtype = torch.bfloat16

    def described(self) -> str:
        """In words."""
        name = str(self.dtype).removeprefix("torch.")
        return (
            f"{self.num_tokens:,} completion tokens in answers of {self.answer_tokens}, heads of {self.hidden_size:,} "
            f"(student) and {self.teacher_hidden_size:,} (teacher) by {self.vocab_size:,}, {name}"
        )


@dataclass(frozen=True)
class HeadCandidate:
    """One way; `loss` makes a scalar that can be run backward, or None where there is nothing but products."""

    name: str
    family: str
    origin: Literal["ours", "peer", "products"]
    loss: Callable[[], Tensor | None]


@dataclass
class HeadInputs:
    """States and heads of random weights on one device; the student's carry gradients."""

    shape: HeadShape
    device: torch.device
    states: Tensor = field(init=False)
    weight: Tensor = field(init=False)
    teacher_states: Tensor = field(init=False)
    teacher_weight: Tensor = field(init=False)
    target_ids: Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator(self.device).manual_seed(0)
        shape = self.shape

        def drawn(rows: int, columns: int, scale: float) -> Tensor:
            values = torch.randn(rows, columns, generator=generator, device=self.device)
            return values.mul_(scale).to(shape.dtype)

        self.states = drawn(shape.num_tokens, shape.hidden_size, 1.0).requires_grad_()
        self.weight = drawn(shape.vocab_size, shape.hidden_size, shape.hidden_size**-0.5).requires_grad_()
        self.teacher_states = drawn(shape.num_tokens, shape.teacher_hidden_size, 1.0)
        self.teacher_weight = drawn(shape.vocab_size, shape.teacher_hidden_size, shape.teacher_hidden_size**-0.5)
        self.target_ids = torch.randint(shape.vocab_size, (shape.num_tokens,), generator=generator, device=self.device)

    @property
    def head(self) -> OutputHead:
        """The student's."""
        return OutputHead(self.weight)

    @property
    def max_logits(self) -> int:
        """Of one chunk, as the trainer chooses."""
        return MAX_LOGITS.get(self.device.type, MAX_LOGITS["cuda"])

    @property
    def num_pairs(self) -> int:
        """Answers two by two."""
        return self.shape.num_tokens // (2 * self.shape.answer_tokens)

    def clear(self) -> None:
        """Forgets the gradients."""
        self.states.grad = self.weight.grad = None


def candidates(inputs: HeadInputs) -> list[HeadCandidate]:
    """All that can be had here: the products of each family first, then ours, then what is installed."""
    found = [
        HeadCandidate("three products", PAIRS, "products", lambda: _products(inputs, with_teacher=False)),
        HeadCandidate("ours, daDPO in one pass", PAIRS, "ours", lambda: _block_loss(inputs)),
        HeadCandidate("ours, log-probs for any loss", PAIRS, "ours", lambda: _token_loss(inputs)),
        HeadCandidate("four products", WHOLE, "products", lambda: _products(inputs, with_teacher=True)),
        HeadCandidate("ours, kd in one pass", WHOLE, "ours", lambda: _kd(inputs)),
    ]
    if importlib.util.find_spec("trl") is not None:
        found += [
            HeadCandidate("TRL, chunked log-probs", PAIRS, "peer", _trl_log_probs(inputs)),
            HeadCandidate("TRL, chunked divergence", WHOLE, "peer", _trl_divergence(inputs)),
        ]
    if importlib.util.find_spec("liger_kernel") is not None:
        found += [
            HeadCandidate("Liger, fused linear DPO", PAIRS, "peer", _liger_dpo(inputs)),
            HeadCandidate("Liger, fused linear JSD", WHOLE, "peer", _liger_jsd(inputs)),
        ]
    return sorted(found, key=lambda candidate: candidate.family != PAIRS)


def resident_peak(shape: HeadShape, name: str) -> int:
    """Bytes that one candidate needs on the CPU above its inputs, after a small run that loads its libraries."""
    small = HeadInputs(replace(shape, num_tokens=2 * shape.answer_tokens, vocab_size=64), torch.device("cpu"))
    whole = HeadInputs(shape, torch.device("cpu"))
    forward_backward(_named(small, name))
    candidate = _named(whole, name)
    memory = PeakMemory()
    forward_backward(candidate)
    return memory.above_level_bytes


def _named(inputs: HeadInputs, name: str) -> HeadCandidate:
    return next(candidate for candidate in candidates(inputs) if candidate.name == name)


def forward_backward(candidate: HeadCandidate) -> float | None:
    """One run there and back; its loss, or None of one that is nothing but products."""
    loss = candidate.loss()
    if loss is None:
        return None
    torch.autograd.backward(loss)
    return float(loss.detach())


@torch.no_grad()
def _products(inputs: HeadInputs, *, with_teacher: bool) -> None:
    """Logits, the gradient of the states and that of the head, chunk by chunk; and the teacher's logits."""
    rows = max(1, min(inputs.max_logits // inputs.shape.vocab_size, inputs.shape.num_tokens))
    logits = torch.empty(rows, inputs.shape.vocab_size, dtype=inputs.shape.dtype, device=inputs.device)
    of_states, of_weight = torch.empty_like(inputs.states), torch.zeros_like(inputs.weight)
    for start in range(0, inputs.shape.num_tokens, rows):
        states = inputs.states[start : start + rows]
        out = logits[: len(states)]
        if with_teacher:
            torch.mm(inputs.teacher_states[start : start + rows], inputs.teacher_weight.t(), out=out)
        torch.mm(states, inputs.weight.t(), out=out)
        torch.mm(out, inputs.weight, out=of_states[start : start + rows])
        of_weight.addmm_(out.t(), states)


def _pair_loss(inputs: HeadInputs, token_log_probs: Tensor, num_pairs: int) -> Tensor:
    """daDPO's loss of some pairs over the number of all, from answers that stand chosen, rejected, chosen, ..."""
    answers = token_log_probs.view(num_pairs, 2, inputs.shape.answer_tokens).sum(-1)
    none = torch.zeros_like(answers[:, 0]).detach()
    losses = dadpo_loss(
        answers[:, 0], answers[:, 1], none, none, none, none, beta_reference=BETA / 2, beta_teacher=BETA / 2
    )
    return losses.sum() / inputs.num_pairs


def _block_loss(inputs: HeadInputs) -> Tensor:
    def loss(values: Tensor, tokens: slice, pairs: slice) -> BlockLoss:
        del tokens
        return BlockLoss(_pair_loss(inputs, values[0], pairs.stop - pairs.start), {})

    sizes = [2 * inputs.shape.answer_tokens] * inputs.num_pairs
    return fused_block_loss(
        inputs.states, inputs.head, inputs.target_ids, loss=loss, block_sizes=sizes, max_logits=inputs.max_logits
    ).loss


def _token_loss(inputs: HeadInputs) -> Tensor:
    log_probs = fused_token_log_probs(inputs.states, inputs.head, inputs.target_ids, max_logits=inputs.max_logits)
    return _pair_loss(inputs, log_probs, inputs.num_pairs)


def _kd(inputs: HeadInputs) -> Tensor:
    teacher = OutputHead(widened(inputs.teacher_weight))
    rows, settings = HiddenStateRows(inputs.teacher_states), KdSettings(tier="exact")

    def divergence(student_log_probs: Tensor, tokens: slice) -> Tensor:
        part = part_of_rows(rows, tokens.start, tokens.stop)
        is_chosen = torch.ones(len(student_log_probs), dtype=torch.bool, device=inputs.device)
        return token_divergences(settings, student_log_probs, part, is_chosen=is_chosen, head=teacher)

    def loss(values: Tensor, tokens: slice, blocks: slice) -> BlockLoss:
        del tokens, blocks
        return BlockLoss(values[1].sum() / inputs.shape.num_tokens, {})

    return fused_block_loss(
        inputs.states, inputs.head, inputs.target_ids, loss=loss, terms=[divergence], max_logits=inputs.max_logits
    ).loss


def _trl_log_probs(inputs: HeadInputs) -> Callable[[], Tensor]:
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE, _ChunkedLogProbFunction

    def loss() -> Tensor:
        log_probs, *_ = _ChunkedLogProbFunction.apply(
            inputs.states,
            inputs.weight,
            None,
            inputs.target_ids,
            1.0,
            _CHUNKED_LOGPROB_CHUNK_SIZE,
            None,
            1.0,
            ("log_probs",),
        )
        return _pair_loss(inputs, log_probs, inputs.num_pairs)

    return loss


def _trl_divergence(inputs: HeadInputs) -> Callable[[], Tensor]:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def loss() -> Tensor:
        divergence, _ = ChunkedDivergenceFunction.apply(
            inputs.states, inputs.weight, None, inputs.teacher_states, inputs.teacher_weight, None, 0.0
        )
        total: Tensor = divergence.sum() / inputs.shape.num_tokens
        return total

    return loss


def _liger_dpo(inputs: HeadInputs) -> Callable[[], Tensor]:
    shape = inputs.shape
    fused = _liger().LigerFusedLinearDPOLoss(beta=BETA, use_ref_model=False, compiled=_can_compile(inputs))
    order = _chosen_first(inputs.num_pairs)

    def loss() -> Tensor:
        states = inputs.states.view(2 * inputs.num_pairs, shape.answer_tokens, -1)[order]
        targets = inputs.target_ids.view(2 * inputs.num_pairs, shape.answer_tokens)[order]
        total: Tensor = fused(inputs.weight, states, targets)[0]
        return total

    return loss


def _liger_jsd(inputs: HeadInputs) -> Callable[[], Tensor]:
    fused = _liger().LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0, compiled=_can_compile(inputs)
    )

    def loss() -> Tensor:
        total: Tensor = fused(
            inputs.states, inputs.weight, inputs.teacher_states, inputs.teacher_weight, inputs.target_ids
        )
        return total

    return loss


def _liger() -> Any:
    return importlib.import_module("liger_kernel.chunked_loss")


def _can_compile(inputs: HeadInputs) -> bool:
    """Liger compiles its chunks unless told otherwise; on a CPU that would need a compiler at hand."""
    return inputs.device.type == "cuda"


def _chosen_first(num_pairs: int) -> Sequence[int]:
    """Chosen answers, then rejected ones, of answers that alternate."""
    return [*range(0, 2 * num_pairs, 2), *range(1, 2 * num_pairs, 2)]
