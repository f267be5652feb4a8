"""Whether a student starts as the reference that it is held to: answer by answer, and by its first loss."""

import logging
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from distill.errors import TrainingError
from distill.models import LoadedModel, is_quantized, without_adapters
from distill.objectives import DadpoSettings, DpoSettings, pair_loss, token_losses
from distill.training.feed import GlobalBatch, MicroBatch
from distill.training.head_loss import pair_terms
from distill.training.settings import TrainSettings
from distill.training.step import StudentStep

log = logging.getLogger(__name__)

Precision = Literal["float32", "float16", "bfloat16"]

TOLERANCES: dict[Precision, tuple[float, float]] = {
    "float32": (1e-3, 1e-4),
    "float16": (0.1, 0.01),
    "bfloat16": (0.5, 0.05),
}
"""Nats of an answer, and of each of its tokens, by which two ways to compute one log-prob may differ."""
LOSS_TOLERANCE = 1e-4


@dataclass(frozen=True)
class _Difference:
    """An answer whose log-probs differ, and by how much more than they may."""

    example_id: str
    answer: str
    policy: float
    reference: float
    excess: float


def coarsest_precision(student: LoadedModel, settings: TrainSettings) -> Precision:
    """The coarsest dtype in which student or reference compute: that of the weights as loaded, or of training.

    Packed weights (NF4) count as bfloat16: their products differ between training and scoring by about as much.
    """
    dtypes = {parameter.dtype for parameter in student.model.parameters() if parameter.is_floating_point()}
    names = {str(dtype).removeprefix("torch.") for dtype in dtypes} | {settings.dtype}
    if "bfloat16" in names or is_quantized(without_adapters(student.model)):
        return "bfloat16"
    return "float16" if "float16" in names else "float32"


def require_reference_start(step: StudentStep, batch: GlobalBatch, *, precision: Precision) -> None:
    r"""Refuses a student that does not begin as the reference of its cache; reads the first batch without dropout.

    Policy and reference are one model at the start, so every answer has the log-prob that the cache says. The loss
    then is known: of dpo, whatever its divergence and label smoothing, :math:`-\log\sigma(0) = \ln 2`; of dadpo the
    mean of :math:`-\log\sigma(-\beta_2 \delta_{te})`, clipped or normalised as the recipe asks; both plus the terms
    that the recipe adds. Objectives without a reference are not looked at.

    Args:
        step: before its first update.
        batch: the first.
        precision: of the coarser of student and reference.

    Raises:
        TrainingError: an answer or the loss is off by more than rounding; not with `checks_start` False, which logs it.
    """
    objective = step.settings.objective
    if not isinstance(objective, DpoSettings | DadpoSettings):
        return
    metrics, readings = step.read(batch)
    floor, per_token = TOLERANCES[precision]
    worst: _Difference | None = None
    # Off answers, answers, the loss that the reference makes, the most by which rounding may move it.
    sums = torch.zeros(4, dtype=torch.float64)
    for one in readings:
        reference = one.micro_batch.reference_log_probs
        assert reference is not None, "such objectives read the reference"
        allowed = floor + per_token * one.micro_batch.answer_lengths
        # Compared so that nan is off too.
        excess = (one.log_probs - reference).abs() - allowed
        is_off = ~(excess <= 0)
        sums += torch.tensor([float(is_off.sum()), len(excess), *_loss(objective, one.micro_batch, reference, allowed)])
        if bool(is_off.any()):
            number = int(excess.nan_to_num(torch.inf).argmax())
            found = _Difference(
                one.micro_batch.example_ids[number // 2],
                ("chosen", "rejected")[number % 2],
                float(one.log_probs[number]),
                float(reference[number]),
                float(excess[number].nan_to_num(torch.inf)),
            )
            worst = found if worst is None or found.excess > worst.excess else worst
    num_off, num_answers, loss, slack = step.world.summed(sums).tolist()
    loss, slack = loss / batch.counts.num_examples, slack / batch.counts.num_examples
    terms = token_losses(objective)
    measured = metrics["loss"] - (terms[0].weight * metrics["token_divergence"] if terms else 0.0)
    is_loss_off = not abs(measured - loss) <= LOSS_TOLERANCE * max(1.0, abs(loss)) + slack
    if num_off == 0 and not is_loss_off:
        log.info("the student starts as the reference: first loss %.6f, expected %.6f", measured, loss)
        return
    error = _error(worst, measured=measured, expected=loss, num_off=int(num_off), num_answers=int(num_answers))
    if step.settings.checks_start:
        raise error
    log.warning("%s", error.what)


def _loss(
    objective: DpoSettings | DadpoSettings, micro_batch: MicroBatch, reference: Tensor, allowed: Tensor
) -> tuple[float, float]:
    """Sums over pairs: the loss of a policy that is the reference, and how far the allowed differences may move it."""
    plain = objective
    if isinstance(objective, DadpoSettings):
        plain = objective.model_copy(update={"token_divergence": None})
    terms = pair_terms(micro_batch, reference, slice(0, len(micro_batch.example_ids)))
    beta = objective.beta if isinstance(objective, DpoSettings) else objective.beta_reference + objective.beta_teacher
    # Rewards of f-DPO other than log u have slopes up to e^|log u|.
    is_log = isinstance(objective, DadpoSettings) or objective.divergence == "reverse_kl"
    steepness = torch.ones_like(allowed) if is_log else allowed.exp()
    slack = (beta + objective.nll_weight) * (allowed * steepness).sum()
    return float(pair_loss(plain, terms).loss.sum()), float(slack)


def _error(
    worst: _Difference | None, *, measured: float, expected: float, num_off: int, num_answers: int
) -> TrainingError:
    if num_off == 0:
        what = f"the first loss is {measured:.6f} and has to be {expected:.6f}"
    elif worst is None:
        what = f"the student does not start as the reference: {num_off} of {num_answers} answers differ, on other ranks"
    else:
        what = (
            f"the student does not start as the reference: of pair {worst.example_id}, the {worst.answer} answer has "
            f"log-prob {worst.policy:.4f}, and {worst.reference:.4f} in the reference's cache; so {num_off} of "
            f"{num_answers} answers"
        )
    return TrainingError(
        what,
        why=f"both are one model before the first step, so that the first loss is {expected:.6f} "
        f"(ln 2 = {math.log(2):.6f} where no teacher enters) and not {measured:.6f}; likely the cache was made from "
        "another model, or from this one in another dtype, quantization or chat template",
        fix="make the reference's cache again: distill cache RECIPE; or, for a student that is meant to start "
        "elsewhere, checks_start=false",
    )
