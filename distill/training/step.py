"""One optimizer step: forward, objective, reduction by global counts, backward, update; the held-out loss."""

import logging
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch

from distill.errors import TrainingError
from distill.models.packed_student import Contributions
from distill.models.world import World
from distill.numerics import widened
from distill.objectives import OutputHead
from distill.training.feed import Counts, Feed, GlobalBatch, MicroBatch
from distill.training.guard import LossGuard
from distill.training.head_loss import head_loss
from distill.training.readings import Readings
from distill.training.settings import TrainSettings

log = logging.getLogger(__name__)

MIN_LOSS_SCALE = 1.0


class UnsoundStepError(TrainingError):
    """A step that cannot be taken; all ranks raise it together.

    Args:
        what: which figure of which step, with its value.
        number: the step, counted from 1.
        metrics: what is known of the step.
        why: why the run cannot go on.
        fix: what to change.
    """

    def __init__(self, what: str, *, number: int, metrics: dict[str, float], why: str, fix: str) -> None:
        super().__init__(what, why=why, fix=fix)
        self.number, self.metrics = number, metrics


class StudentStep:
    """Takes optimizer steps with a DeepSpeed engine.

    A pass contributes its sum divided by the count of the whole global batch, so adding up passes and ranks gives
    the mean however the batch is split.

    Args:
        engine: around a `PackedStudent`.
        settings: objective and clipping.
        world: whose ranks share the batch.
        teacher_head: turns the cache's hidden states into the teacher's logits; for objectives on distributions.
        clips_outside: clip here, for DeepSpeed keeps no gradient norm in plain float32.

    Attributes:
        guard: knows the losses so far; stops a run whose loss explodes.
    """

    def __init__(
        self,
        engine: Any,
        settings: TrainSettings,
        *,
        world: World,
        teacher_head: OutputHead | None = None,
        clips_outside: bool,
    ) -> None:
        self.engine, self.settings, self.world, self.clips_outside = engine, settings, world, clips_outside
        self.guard = LossGuard(settings.explosion_factor)
        self.teacher_head = None if teacher_head is None else _placed(teacher_head, world.device)

    def train(self, batch: GlobalBatch, *, lr: float, number: int) -> dict[str, float]:
        """Updates the weights once; returns the means over the global batch, and the gradient's norm before clipping.

        In float16, a step whose scaled gradient overflows changes no weight and has no norm: DeepSpeed skips it and
        halves its loss scale; `num_skipped_steps` counts such steps.

        Raises:
            UnsoundStepError: the loss or the gradient of step `number` is not finite, the loss has exploded, or float16
                holds the gradient at no loss scale; the weights are those before the step.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        parts: list[Contributions] = []
        last = len(batch.passes) - 1
        for position, micro_batch in enumerate(batch.passes):
            # How many passes the token budget makes of a batch differs from step to step.
            self.engine.set_gradient_accumulation_boundary(position == last)
            contributions = self._forward(micro_batch, batch.counts)
            # DeepSpeed averages gradients over ranks; ours are shares of one mean and have to be added.
            self.engine.backward(contributions["loss"] * self.world.world_size, scale_wrt_gas=False)
            parts.append({name: value.detach() for name, value in contributions.items()})
            if position < last:
                self.engine.step()
        metrics = self._total(parts)
        self._require_sound_loss(metrics, number=number)
        metrics |= self._update()
        self._require_sound_update(metrics, number=number)
        return metrics

    @torch.no_grad()
    def evaluate(self, feed: Feed) -> dict[str, float]:
        """The same loss and metrics over all of a feed's examples, weights unchanged; names begin with `valid_`."""
        self.engine.eval()
        total = self._total(
            self._forward(micro_batch, feed.all_counts)
            for number in range(feed.num_batches)
            for micro_batch in feed.in_order(number).passes
        )
        self.engine.train()
        return {f"valid_{name}": value for name, value in total.items()}

    @torch.no_grad()
    def read(self, batch: GlobalBatch) -> tuple[dict[str, float], list[Readings]]:
        """The loss and metrics of a batch without dropout, weights unchanged; and each of this rank's passes apart.

        Passes that do not count are read too, and left out of the list.
        """
        self.engine.eval()
        readings = [Readings.of(micro_batch.to(self.world.device)) for micro_batch in batch.passes]
        total = self._total([self._forward(one.micro_batch, batch.counts, one) for one in readings])
        self.engine.train()
        return total, [one for one in readings if one.micro_batch.is_counted]

    def _forward(self, micro_batch: MicroBatch, counts: Counts, readings: Readings | None = None) -> Contributions:
        micro_batch = micro_batch.to(self.world.device)
        loss = head_loss(
            self.settings.objective, micro_batch, counts, teacher_head=self.teacher_head, readings=readings
        )
        contributions: Contributions = self.engine(
            batch=micro_batch.pack, loss=loss, is_branched=micro_batch.is_branched, runs=micro_batch.runs
        )
        return contributions

    def _total(self, parts: Iterable[Contributions]) -> dict[str, float]:
        """Contributions added up over passes and ranks."""
        parts = list(parts)
        names = list(parts[0])
        sums = torch.stack([torch.stack([part[name] for part in parts]).sum() for name in names])
        return dict(zip(names, self.world.summed(sums).tolist(), strict=True))

    def _update(self) -> dict[str, float]:
        """Clips and steps; tells the gradient's norm before clipping, which is not finite where no step was taken."""
        if self.clips_outside:
            parameters = [p for p in self.engine.module.parameters() if p.requires_grad]
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm))
            if math.isfinite(norm):
                self.engine.step()
            return {"grad_norm": norm}
        self.engine.step()
        if self.settings.dtype != "float16":
            return {"grad_norm": float(self.engine.get_global_grad_norm())}
        scale = float(self.engine.optimizer.loss_scale)
        figures = {"loss_scale": scale, "num_skipped_steps": float(self.engine.skipped_steps)}
        if not self.engine.optimizer.overflow:
            return {"grad_norm": float(self.engine.get_global_grad_norm()), **figures}
        log.info("a gradient overflowed float16: the step is skipped, and the loss scale is now %g", scale)
        return figures

    def _require_sound_loss(self, metrics: dict[str, float], *, number: int) -> None:
        loss = metrics["loss"]
        if not math.isfinite(loss):
            raise UnsoundStepError(
                f"loss of step {number} is {loss}",
                number=number,
                metrics=metrics,
                why="the weights would be lost; the last checkpoint is sound",
                fix=self._gentler,
            )
        verdict = self.guard.verdict(loss)
        # One rank decides: sums over ranks may differ in their last bit, and all have to stop at the same step.
        if self.settings.explosion_factor is not None and self.world.from_main(int(verdict is not None)):
            raise UnsoundStepError(
                f"loss of step {number} is {loss:.6g}, {verdict or 'too far from the usual one'}",
                number=number,
                metrics=metrics,
                why="a loss that explodes takes the weights with it; the last checkpoints may be sound",
                fix=f"{self._gentler}; where such losses are in order, explosion_factor="
                f"{10 * self.settings.explosion_factor:g}, or null to stop for none",
            )

    def _require_sound_update(self, metrics: dict[str, float], *, number: int) -> None:
        norm, scale = metrics.get("grad_norm"), metrics.get("loss_scale")
        # DeepSpeed says -1 where a norm is no number.
        if norm is not None and (not math.isfinite(norm) or norm < 0):
            raise UnsoundStepError(
                f"grad_norm of step {number} is {norm}",
                number=number,
                metrics=metrics,
                why="the weights would be lost; the last checkpoint is sound",
                fix=self._gentler,
            )
        if norm is None and scale is not None and scale <= MIN_LOSS_SCALE:
            raise UnsoundStepError(
                f"the gradient of step {number} overflows float16 at a loss scale of {2 * scale:g}",
                number=number,
                metrics=metrics,
                why="1, the smallest scale, is what is left, and steps no longer change the weights",
                fix="dtype=bfloat16, which overflows as late as float32",
            )

    @property
    def _gentler(self) -> str:
        settings = self.settings
        return f"lower learning_rate ({settings.learning_rate:g}) or max_grad_norm ({settings.max_grad_norm:g})"


def _placed(head: OutputHead, device: torch.device) -> OutputHead:
    """The head on `device`, widened once in place of at every step."""
    bias = None if head.bias is None else widened(head.bias).to(device)
    return replace(head, weight=widened(head.weight).to(device), bias=bias)
