"""A recipe's target of f-DPG: log P of answers, by the frozen start, the teacher, and features of their texts."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import Conversation, TokenizedSequence
from distill.data.templates import render_prompt
from distill.decoding import SamplingSettings, TransformersGenerator
from distill.models import LoadedModel
from distill.numerics import segment_sum
from distill.objectives.energy_targets import FittedTilt, between, constrained, fit_tilt, rewarded, tilted
from distill.objectives.fused import fused_token_log_probs
from distill.reward.text_features import TextFeature, text_feature
from distill.training.f_dpg_settings import FDpgSettings, TargetSettings
from distill.training.live_teacher import LiveTeacher

log = logging.getLogger(__name__)

MAX_LOG_WEIGHT = 300.0


@dataclass(frozen=True)
class Answered:
    """Some answers: the prompt of each (a place in the list of prompts), its tokens and its text."""

    prompts: tuple[Conversation, ...]
    sequences: tuple[TokenizedSequence, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """What the target says of some answers, in nats and float64; `features` are those of its moments."""

    base_log_probs: Float[Tensor, " answers"]
    target_log_probs: Float[Tensor, " answers"]
    features: Float[Tensor, "answers moments"]
    is_allowed: Tensor
    rewards: Float[Tensor, " answers"] | None


@torch.no_grad()
def answer_log_probs(reader: LiveTeacher, sequences: Sequence[TokenizedSequence]) -> Float[Tensor, " answers"]:
    """log-prob of each answer given its prompt, summed over its tokens, in float64 on the CPU."""
    rows = reader.rows(sequences)
    targets = torch.tensor([token for sequence in sequences for token in sequence.completion_ids])
    lengths = torch.tensor([len(sequence.completion_ids) for sequence in sequences])
    states = rows.hidden_states
    values = fused_token_log_probs(states, reader.head, targets.to(states.device)).cpu()
    return segment_sum(values.double(), torch.arange(len(lengths)).repeat_interleave(lengths), len(lengths))


@dataclass(frozen=True)
class Target:
    """log P, unnormalised.

    Args:
        settings: the recipe's.
        base: the frozen start.
        teacher: the recipe's, where the target has a pull toward it.
        moments: the features with a prescribed mean, in the order of the settings.
        always: the hard constraints.
        reward: what is rewarded.
        tilt: the coefficients of the moments; None: not fitted yet, and they count nothing.
        fit_sums: by the number of a prompt, the sum of P / q over the answers of the fit, and how many they are.
    """

    settings: TargetSettings
    base: LiveTeacher
    teacher: LiveTeacher | None
    moments: tuple[TextFeature, ...]
    always: tuple[TextFeature, ...]
    reward: TextFeature | None
    tilt: FittedTilt | None = None
    fit_sums: Mapping[int, tuple[float, float]] = field(default_factory=dict)

    @staticmethod
    def of(settings: TargetSettings, base: LiveTeacher, teacher: LiveTeacher | None) -> "Target":
        """The target with its features loaded, its moments not fitted."""
        return Target(
            settings,
            base,
            teacher,
            tuple(text_feature(moment.feature) for moment in settings.moments),
            tuple(text_feature(feature) for feature in settings.always),
            None if settings.reward is None else text_feature(settings.reward),
        )

    def scored(self, answered: Answered) -> Scored:
        """log a and log P of answers, and their features."""
        settings = self.settings
        own = answer_log_probs(self.base, answered.sequences)
        messages = [prompt.messages for prompt in answered.prompts]
        energies = own
        if self.teacher is not None:
            teachers = answer_log_probs(self.teacher, answered.sequences)
            betas = {"beta_reference": settings.beta_reference, "beta_teacher": settings.beta_teacher}
            energies = between(own, teachers, **betas)
        rewards = None if self.reward is None else self.reward.of(messages, answered.texts)
        if rewards is not None:
            energies = rewarded(energies, rewards, beta=settings.beta_reference + settings.beta_teacher)
        columns = [feature.of(messages, answered.texts) for feature in self.moments]
        features = torch.stack(columns, dim=1) if columns else torch.zeros(len(own), 0, dtype=torch.float64)
        if self.tilt is not None:
            energies = tilted(energies, features, self.tilt.coefficients)
        is_allowed = torch.ones(len(own), dtype=torch.bool)
        for feature in self.always:
            is_allowed &= feature.of(messages, answered.texts) == 1.0
        return Scored(own, constrained(energies, is_allowed), features, is_allowed, rewards)


def fitted(
    target: Target, base: LoadedModel, prompts: Sequence[Conversation], settings: FDpgSettings, *, seed: int
) -> Target:
    """The target with the coefficients of its moments, from answers of the start to the first of the prompts.

    The same answers begin the running means that estimate these prompts' normalisers.

    Raises:
        RecipeError: no weighting of these answers has the wanted moments.
    """
    if not target.moments:
        return target
    answered = answers_of(
        base, prompts[: settings.num_fit_prompts], num_samples=settings.num_fit_samples, settings=settings, seed=seed
    )
    scored = target.scored(answered)
    num_prompts = min(settings.num_fit_prompts, len(prompts))
    group = torch.arange(num_prompts).repeat_interleave(settings.num_fit_samples)
    # A prompt all of whose answers a hard constraint rules out has no target, and counts for no moment.
    is_left = torch.zeros(num_prompts, dtype=torch.int64).index_add(0, group, scored.is_allowed.long()) > 0
    kept = scored.is_allowed
    numbers = (is_left.long().cumsum(0) - 1)[group]
    wanted = torch.tensor([moment.mean for moment in target.settings.moments], dtype=torch.float64)
    tilt = fit_tilt(
        (scored.target_log_probs - scored.base_log_probs)[kept], scored.features[kept], wanted, group=numbers[kept]
    )
    for moment, before, coefficient in zip(
        target.settings.moments, scored.features.mean(0).tolist(), tilt.coefficients.tolist(), strict=True
    ):
        label = moment.feature.label
        log.info("%s: mean %.4f at the start, %.4f wanted, lambda %.4f", label, before, moment.mean, coefficient)
    log_weights = (scored.target_log_probs - scored.base_log_probs) + scored.features @ tilt.coefficients
    sums = segment_sum(log_weights.clamp_max(MAX_LOG_WEIGHT).exp(), group, num_prompts).tolist()
    fit_sums = {number: (total, float(settings.num_fit_samples)) for number, total in enumerate(sums)}
    return replace(target, tilt=tilt, fit_sums=fit_sums)


def answers_of(
    model: LoadedModel, prompts: Sequence[Conversation], *, num_samples: int, settings: FDpgSettings, seed: int
) -> Answered:
    """`num_samples` answers to each prompt at temperature 1, those of a prompt together."""
    rendered = [tuple(render_prompt(model.tokenizer, prompt.messages)) for prompt in prompts]
    asked = [ids for ids in rendered for _ in range(num_samples)]
    sampling = SamplingSettings(temperature=1.0, max_new_tokens=settings.max_new_tokens)
    drawn = TransformersGenerator(model).generate_ids(asked, sampling, seed=seed)
    owners = [prompt for prompt in prompts for _ in range(num_samples)]
    return answered(model, owners, asked, drawn)


def answered(
    model: LoadedModel,
    prompts: Sequence[Conversation],
    prompt_ids: Sequence[tuple[int, ...]],
    answers: Sequence[Sequence[int]],
) -> Answered:
    """Token ids as sequences, with their texts."""
    texts = [str(model.tokenizer.decode(list(ids), skip_special_tokens=True)) for ids in answers]
    sequences = [TokenizedSequence(own, tuple(ids)) for own, ids in zip(prompt_ids, answers, strict=True)]
    return Answered(tuple(prompts), tuple(sequences), tuple(texts))
