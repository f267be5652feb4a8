"""One optimizer step: forward, objective, reduction by global counts, backward, update; the held-out loss."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distill.errors import TrainingError
from distill.models.world import World
from distill.numerics import log_softmax, segment_sum, token_log_probs, widened
from distill.objectives import OutputHead, PairTerms, SftSettings, TokenTerms, pair_loss, sft_token_loss
from distill.objectives.table import ObjectiveSettings, PairSettings
from distill.objectives.vocabulary import in_shared_vocabulary
from distill.training.feed import Counts, Feed, GlobalBatch, MicroBatch
from distill.training.settings import TrainSettings

Contributions = dict[str, Tensor]


class StudentStep:
    """Takes optimizer steps with a DeepSpeed engine.

    A pass contributes its sum divided by the count of the whole global batch, so adding up passes and ranks gives
    the mean however the batch is split.

    Args:
        engine: around a `StudentModule`.
        settings: objective and clipping.
        world: whose ranks share the batch.
        teacher_head: turns the cache's hidden states into the teacher's logits; for objectives on distributions.
        clips_outside: clip here, for DeepSpeed keeps no gradient norm in plain float32.
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
        self.teacher_head = None if teacher_head is None else _placed(teacher_head, world.device)

    def train(self, batch: GlobalBatch, *, lr: float, number: int) -> dict[str, float]:
        """Updates the weights once; returns the means over the global batch, and the gradient's norm before clipping.

        Raises:
            TrainingError: the loss or the gradient of step `number` is not finite.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = lr
        parts: list[Contributions] = []
        last = len(batch.passes) - 1
        for position, micro_batch in enumerate(batch.passes):
            contributions = self._forward(micro_batch, batch.counts)
            # DeepSpeed averages gradients over ranks; ours are shares of one mean and have to be added.
            self.engine.backward(contributions["loss"] * self.world.world_size, scale_wrt_gas=False)
            parts.append({name: value.detach() for name, value in contributions.items()})
            if position < last:
                self.engine.step()
        metrics = self._total(parts)
        _require_finite("loss", metrics["loss"], number=number, settings=self.settings)
        metrics["grad_norm"] = self._update()
        _require_finite("grad_norm", metrics["grad_norm"], number=number, settings=self.settings)
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

    def _forward(self, micro_batch: MicroBatch, counts: Counts) -> Contributions:
        micro_batch = micro_batch.to(self.world.device)
        rows = micro_batch.rows
        logits = self.engine(rows.input_ids, rows.attention_mask, rows.position_ids, rows.completion_mask)
        contributions = loss_contributions(
            self.settings.objective, logits, micro_batch, counts, teacher_head=self.teacher_head
        )
        if micro_batch.is_counted:
            return contributions
        return {name: torch.zeros_like(value) + 0.0 * logits.sum() for name, value in contributions.items()}

    def _total(self, parts: Iterable[Contributions]) -> dict[str, float]:
        """Contributions added up over passes and ranks."""
        parts = list(parts)
        names = list(parts[0])
        sums = torch.stack([torch.stack([part[name] for part in parts]).sum() for name in names])
        return dict(zip(names, self.world.summed(sums).tolist(), strict=True))

    def _update(self) -> float:
        """Clips and steps; returns the gradient's norm before clipping."""
        if not self.clips_outside:
            self.engine.step()
            return float(self.engine.get_global_grad_norm())
        parameters = [p for p in self.engine.module.parameters() if p.requires_grad]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.settings.max_grad_norm))
        if math.isfinite(norm):
            self.engine.step()
        return norm


def loss_contributions(
    objective: ObjectiveSettings,
    logits: Float[Tensor, "tokens vocab"],
    micro_batch: MicroBatch,
    counts: Counts,
    *,
    teacher_head: OutputHead | None = None,
) -> Contributions:
    """What one pass adds to the loss and to each metric of its global batch: its sum over the global count.

    Means are over completion tokens for `sft`, over pairs for the others.

    Args:
        objective: the recipe's choice.
        logits: of the student, at the pass's completion tokens.
        micro_batch: targets, rows and cached scores.
        counts: of the global batch.
        teacher_head: needed where `micro_batch` carries the teacher's hidden states.
    """
    if isinstance(objective, SftSettings):
        losses = sft_token_loss(token_log_probs(logits, micro_batch.target_ids))
        return {"loss": losses.sum() / counts.num_completion_tokens}
    return _pair_contributions(objective, logits, micro_batch, counts, teacher_head=teacher_head)


def _pair_contributions(
    objective: PairSettings,
    logits: Float[Tensor, "tokens vocab"],
    micro_batch: MicroBatch,
    counts: Counts,
    *,
    teacher_head: OutputHead | None,
) -> Contributions:
    tokens = None
    if micro_batch.teacher_hidden_states is None:
        log_probs_of_targets = token_log_probs(logits, micro_batch.target_ids)
    else:
        assert teacher_head is not None
        log_probs = log_softmax(logits)
        tokens = _token_terms(log_probs, micro_batch, teacher_head)
        log_probs_of_targets = log_probs.gather(-1, micro_batch.target_ids[:, None])[:, 0]
    num_rows = len(micro_batch.row_lengths)
    num_pairs = num_rows // 2
    terms = _pair_terms(segment_sum(log_probs_of_targets, micro_batch.token_rows, num_rows), micro_batch)
    result = pair_loss(objective, terms, tokens=tokens)
    logged = {
        **result.quantities,
        "chosen_log_prob": terms.policy_chosen_log_probs.detach(),
        "rejected_log_prob": terms.policy_rejected_log_probs.detach(),
    }
    assert result.loss.shape == (num_pairs,)
    return {name: value.sum() / counts.num_examples for name, value in {"loss": result.loss, **logged}.items()}


def _pair_terms(policy: Float[Tensor, " rows"], micro_batch: MicroBatch) -> PairTerms:
    """The first half of the rows is chosen, the second rejected."""
    num_pairs = len(policy) // 2
    reference, teacher = micro_batch.reference_log_probs, micro_batch.teacher_log_probs
    return PairTerms(
        policy_chosen_log_probs=policy[:num_pairs],
        policy_rejected_log_probs=policy[num_pairs:],
        reference_chosen_log_probs=None if reference is None else reference[:num_pairs],
        reference_rejected_log_probs=None if reference is None else reference[num_pairs:],
        teacher_chosen_log_probs=None if teacher is None else teacher[:num_pairs],
        teacher_rejected_log_probs=None if teacher is None else teacher[num_pairs:],
        num_chosen_tokens=micro_batch.row_lengths[:num_pairs],
    )


def _token_terms(
    student_log_probs: Float[Tensor, "tokens vocab"], micro_batch: MicroBatch, teacher_head: OutputHead
) -> TokenTerms:
    """Both distributions over the rows that both heads have; the wider one is padded further."""
    assert micro_batch.teacher_hidden_states is not None
    teacher_log_probs = log_softmax(teacher_head.logits(micro_batch.teacher_hidden_states))
    num_tokens = min(teacher_log_probs.shape[-1], student_log_probs.shape[-1])
    num_pairs = len(micro_batch.row_lengths) // 2
    return TokenTerms(
        teacher_log_probs=in_shared_vocabulary(teacher_log_probs, num_tokens=num_tokens).log_probs,
        student_log_probs=in_shared_vocabulary(student_log_probs, num_tokens=num_tokens).log_probs,
        pair_index=micro_batch.token_rows % num_pairs,
        is_chosen=micro_batch.token_rows < num_pairs,
    )


def _require_finite(name: str, value: float, *, number: int, settings: TrainSettings) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"{name} of step {number} is {value}",
            why="the weights would be lost; the last checkpoint is sound",
            fix=f"lower learning_rate ({settings.learning_rate:g}) or max_grad_norm ({settings.max_grad_norm:g})",
        )


def _placed(head: OutputHead, device: torch.device) -> OutputHead:
    """The head on `device`, widened once in place of at every step."""
    bias = None if head.bias is None else widened(head.bias).to(device)
    return replace(head, weight=widened(head.weight).to(device), bias=bias)
