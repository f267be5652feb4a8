"""The exam of stage `f_dpg`: how far each divergence brought the student, and what it cost in diversity."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import Conversation
from distill.models import LoadedModel
from distill.models.world import World
from distill.numerics import segment_sum
from distill.objectives.energy_targets import tilted_moments
from distill.objectives.f_dpg_estimates import (
    grouped_log_mean,
    jensen_shannon_to_target,
    kl_from_target,
    total_variation_to_target,
)
from distill.training.f_dpg_settings import FDpgSettings
from distill.training.f_dpg_target import Scored, Target, answer_log_probs, answers_of
from distill.training.live_teacher import LiveTeacher
from eval.alignment_diversity import distinct_bigrams, distinct_share
from eval.f_dpg_figures import FDpgRow
from eval.intervals import clustered_interval
from eval.scores import Interval

SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class _Paper:
    """A model's answers to every question, what the target says of them, and their log-probs by the model itself."""

    model: str
    texts: tuple[str, ...]
    scored: Scored
    own_log_probs: Float[Tensor, " answers"]

    @property
    def log_weights(self) -> Float[Tensor, " answers"]:
        """log P / q."""
        return self.scored.target_log_probs - self.own_log_probs


class FDpgExam:
    """Asks models the same held-out prompts.

    A prompt's normaliser is the mean of P / q over the answers of all models that sat the exam, each an unbiased
    estimate of it: the nearer a model is to the target, the less its own spreads.

    Args:
        target: with its moments fitted.
        prompts: held out.
        settings: how many answers.
        seed: of draws and intervals.
    """

    def __init__(self, target: Target, prompts: Sequence[Conversation], settings: FDpgSettings, *, seed: int) -> None:
        self.target, self.settings, self.seed = target, settings, seed
        self.prompts = list(prompts[: settings.num_measured_prompts])
        self._group = torch.arange(len(self.prompts)).repeat_interleave(settings.num_measured_samples)
        self._papers: list[_Paper] = []

    def sit(self, name: str, model: LoadedModel) -> None:
        """Takes a model's answers."""
        answered = answers_of(
            model, self.prompts, num_samples=self.settings.num_measured_samples, settings=self.settings, seed=self.seed
        )
        reader = LiveTeacher(model, max_tokens=self.settings.max_tokens_per_pass, world=World(0, 1, 0))
        own = answer_log_probs(reader, answered.sequences)
        self._papers.append(_Paper(name, answered.texts, self.target.scored(answered), own))

    def rows(self) -> tuple[FDpgRow, ...]:
        """The figures of every model, in the order in which they sat."""
        log_z = self._log_normalisers()
        return tuple(self._row(paper, log_z) for paper in self._papers)

    def target_moments(self) -> dict[str, Interval]:
        """Means of the target itself on these prompts, from all models' answers, weighted."""
        group = self._group.repeat(len(self._papers))
        log_weights = torch.cat([paper.log_weights for paper in self._papers])
        features = torch.cat([paper.scored.features for paper in self._papers])
        has_target = self._log_normalisers() > -torch.inf
        kept = has_target[group]
        numbers = (has_target.long().cumsum(0) - 1)[group[kept]]
        none = torch.zeros(features.shape[1], dtype=features.dtype)
        weights = tilted_moments(log_weights[kept], features[kept], numbers, none)[2]
        found = {}
        for column, moment in zip((weights[:, None] * features[kept]).T, self.settings.target.moments, strict=True):
            means, is_share = segment_sum(column, numbers, int(numbers.max()) + 1), moment.feature.is_binary
            means = means.clamp(*SHARE) if is_share else means  # rounding may lead a weighted share out of its range
            found[moment.feature.label] = self._over_prompts(means, is_share=is_share)
        return found

    def _log_normalisers(self) -> Float[Tensor, " prompts"]:
        log_weights = torch.cat([paper.log_weights for paper in self._papers])
        return grouped_log_mean(log_weights, self._group.repeat(len(self._papers)), len(self.prompts))

    def _row(self, paper: _Paper, log_z: Float[Tensor, " prompts"]) -> FDpgRow:
        scored, own = paper.scored, paper.own_log_probs
        # A prompt none of whose answers the target allows has no target.
        has_target = (log_z > -torch.inf)[self._group]
        target = scored.target_log_probs - torch.where(has_target, log_z[self._group], 0.0)
        moments = {
            moment.feature.label: self._interval(scored.features[:, number], is_share=moment.feature.is_binary)
            for number, moment in enumerate(self.settings.target.moments)
        }
        return FDpgRow(
            model=paper.model,
            moments=moments,
            share_allowed=self._interval(scored.is_allowed.double(), is_share=True) if self.target.always else None,
            reward=None if scored.rewards is None else self._interval(scored.rewards),
            kl_target_to_model=self._interval(kl_from_target(target, own, own), has_target),
            total_variation=self._interval(total_variation_to_target(target, own, own), has_target),
            jensen_shannon=self._interval(jensen_shannon_to_target(target, own, own), has_target),
            kl_to_start=self._interval(own - scored.base_log_probs),
            entropy=self._interval(-own),
            distinct_answers=self._distinct(paper.texts),
            distinct_bigrams=distinct_bigrams(paper.texts),
        )

    def _interval(self, values: Tensor, counts: Tensor | None = None, *, is_share: bool = False) -> Interval:
        kept = torch.ones_like(self._group, dtype=torch.bool) if counts is None else counts
        sums = segment_sum(torch.where(kept, values, 0.0), self._group, len(self.prompts))
        sizes = segment_sum(kept.double(), self._group, len(self.prompts))
        return self._over_prompts((sums / sizes)[sizes > 0], is_share=is_share)

    def _over_prompts(self, means: Float[Tensor, " prompts"], *, is_share: bool = False) -> Interval:
        return clustered_interval(
            [[mean] for mean in means.tolist()], seed=self.seed, scale=SHARE if is_share else None
        )

    def _distinct(self, texts: Sequence[str]) -> Interval:
        size = self.settings.num_measured_samples
        shares = [distinct_share(texts[at : at + size]) for at in range(0, len(texts), size)]
        return clustered_interval([[share] for share in shares], seed=self.seed, scale=SHARE)
