"""The batches of f-DPG: answers drawn by the student or by a proposal, weighed by what the target says of them."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill.data import Conversation, step_indices
from distill.data.order import rank_share
from distill.data.prompt_packs import PromptGroup, group_item, pack_items, runs_of
from distill.data.templates import render_prompt
from distill.decoding import SamplingSettings, TransformersGenerator
from distill.decoding.sampling import prompt_draws
from distill.files import read_json, write_json
from distill.models import LoadedModel
from distill.models.packed import PackForm
from distill.models.world import World
from distill.objectives.f_dpg import f_dpg_weight
from distill.objectives.f_dpg_estimates import (
    entropy_terms,
    jensen_shannon_to_target,
    kl_between,
    kl_from_target,
    total_variation_to_target,
)
from distill.objectives.f_generators import FDpgDivergence, pseudo_reward
from distill.training.f_dpg_settings import FDpgSettings
from distill.training.f_dpg_state import RunningNormalisers, RunningState, WindowedMean
from distill.training.f_dpg_target import MAX_LOG_WEIGHT, Answered, Scored, Target, answer_log_probs, answered
from distill.training.feed import Counts, GlobalBatch, MicroBatch
from distill.training.live_teacher import LiveTeacher
from distill.training.passes import Budget, balanced_passes, max_width, padded_passes

log = logging.getLogger(__name__)

STATE_NAME = "f_dpg.json"
PROPOSAL_NAME = "f_dpg_proposal.safetensors"


class FDpgRollout:
    """Draws, scores and weighs the answers of each step; the engine then raises their log-probs by the weights.

    A prompt's answers are a function of seed, step, prompt and weights, as those of `Rollout`. Each rank draws the
    answers to its own share; normalisers and baseline are of all ranks.

    Args:
        student: the model inside the engine.
        target: log P.
        prompts: that end in a user's turn.
        settings: the recipe's section.
        divergence: which of its divergences is followed.
        seed: of order and draws.
        world: whose ranks share each batch.
        form: how the student takes packed rows.
        pad_id: stands where rows are padded.
        proposal: a copy of the student that draws in its place; none: the student draws.
    """

    def __init__(
        self,
        student: LoadedModel,
        target: Target,
        prompts: Sequence[Conversation],
        settings: FDpgSettings,
        *,
        divergence: FDpgDivergence,
        seed: int,
        world: World,
        form: PackForm | None,
        pad_id: int,
        proposal: LoadedModel | None = None,
    ) -> None:
        self.student, self.target, self.settings, self.divergence = student, target, settings, divergence
        self.seed, self.world, self.form, self.pad_id = seed, world, form, pad_id
        self.prompts = list(prompts)
        self.normalisers, self.rewards = RunningNormalisers(target.fit_sums), WindowedMean(settings.baseline_window)
        self._prompt_ids = [tuple(render_prompt(student.tokenizer, prompt.messages)) for prompt in prompts]
        self._last: dict[str, float] = {}
        self._nearness = torch.zeros(3, dtype=torch.float64)
        was_training = student.model.training
        self._proposal = student if proposal is None else proposal
        self._generator = TransformersGenerator(self._proposal)
        student.model.train(was_training)

    def read_ahead(self, step: int) -> GlobalBatch | None:
        """None: every step's answers depend on the weights of its moment."""
        return None

    def batch(self, step: int) -> GlobalBatch:
        """The global batch of a step, drawn and weighed with the weights of now."""
        settings = self.settings
        indices = step_indices(
            len(self.prompts), seed=self.seed, global_batch_size=settings.global_batch_size, step=step
        )
        places = [index for index in indices for _ in range(settings.num_samples)]
        own = rank_share(range(len(places)), rank=self.world.rank, world_size=self.world.world_size)
        # A rank without a share repeats one answer, so that collectives meet.
        rows = list(own) or [0]
        drawn = self._drawn(places, rows, step=step)
        is_own = torch.full((len(rows),), bool(own))
        weights = self._weighed(torch.tensor([places[row] for row in rows]), drawn, is_own)
        parts = self._parts(drawn) if own else []
        num_passes = self._most(len(parts))
        passes = [self._pass(drawn, weights, part, is_counted=True) for part in parts]
        passes += [self._pass(drawn, weights, [0], is_counted=False)] * (num_passes - len(passes))
        return GlobalBatch(tuple(passes), self._counts(drawn, is_counted=bool(own)))

    def figures(self, metrics: Mapping[str, float], *, step: int) -> dict[str, float]:
        """A step's metrics with those of its answers; offline, the proposal follows where the student is nearer."""
        found = {**metrics, **self._last}
        settings = self.settings
        if self._is_offline and (step + 1) % settings.proposal_update_steps == 0:
            found["is_proposal_updated"] = float(self._update_proposal())
        return found

    def save(self, folder: Path) -> None:
        """Normalisers, window and, offline, the proposal's weights."""
        state = RunningState(prompt_sums=self.normalisers.sums, windows=tuple(self.rewards.steps))
        write_json(folder / STATE_NAME, {**state.model_dump(mode="json"), "nearness": self._nearness.tolist()})
        if self._is_offline:
            save_file(_weights(self._proposal), folder / PROPOSAL_NAME)

    def load(self, folder: Path) -> None:
        """What `save` wrote."""
        values = dict(read_json(folder / STATE_NAME))
        self._nearness = torch.tensor(values.pop("nearness"), dtype=torch.float64)
        state = RunningState.model_validate(values)
        self.normalisers.sums = dict(state.prompt_sums)
        self.rewards.steps.extend(state.windows)
        if self._is_offline:
            _put(self._proposal, load_file(folder / PROPOSAL_NAME))

    @property
    def _is_offline(self) -> bool:
        return self._proposal is not self.student

    def _drawn(self, places: Sequence[int], rows: Sequence[int], *, step: int) -> Answered:
        ids = [self._prompt_ids[place] for place in places]
        sampling = SamplingSettings(temperature=1.0, max_new_tokens=self.settings.max_new_tokens)
        draws = prompt_draws(ids, num_draws=sampling.max_new_tokens, seed=_draw_seed(self.seed, step))
        asked = [ids[row] for row in rows]
        answers = self._generator.answer_ids(asked, sampling, draws=draws[list(rows)])
        return answered(self.student, [self.prompts[places[row]] for row in rows], asked, answers)

    def _weighed(self, prompts: Tensor, drawn: Answered, is_own: Tensor) -> Tensor:
        """f-DPG's weight of each answer; takes the answers into normalisers, baseline and figures."""
        scored = self.target.scored(drawn)
        policy = self._log_probs(self.student, drawn)
        proposal = policy if self._proposal is self.student else self._log_probs(self._proposal, drawn)
        self._take_normalisers((scored.target_log_probs - proposal)[is_own], prompts[is_own])
        log_z = self.normalisers.log_of(prompts)
        # No answer of such a prompt was allowed so far: it has no target yet, and moves nothing.
        has_target = log_z > -torch.inf
        target = torch.where(has_target, scored.target_log_probs - log_z, policy)
        options = {"divergence": self.divergence, "alpha": self.settings.alpha, "max_reward": self.settings.max_reward}
        weights = f_dpg_weight(policy, target, proposal, baseline=self.rewards.mean, **options)  # type: ignore[arg-type]
        rewards = pseudo_reward(
            policy - target, self.divergence, alpha=self.settings.alpha, max_reward=self.settings.max_reward
        )
        counts = has_target & is_own
        ratio = (policy - proposal).exp()
        sums = self.world.summed(torch.stack([(ratio * rewards)[counts].sum(), ratio[counts].sum()]))
        self._take_figures(scored, target, policy, proposal, counts)
        self._last["baseline"] = self.rewards.mean
        self._last["reward"] = float(sums[0] / sums[1]) if float(sums[1]) > 0 else 0.0
        self.rewards.add(float(sums[0]), float(sums[1]))
        return torch.where(has_target, weights, 0.0)

    def _take_normalisers(self, log_weights: Tensor, own: Tensor) -> None:
        """Adds this step's P / q of all ranks to the running means."""
        num_prompts = len(self.prompts)
        sums = torch.zeros(2, num_prompts, dtype=torch.float64)
        sums[0].index_add_(0, own, log_weights.clamp_max(MAX_LOG_WEIGHT).exp())
        sums[1].index_add_(0, own, torch.ones_like(log_weights))
        sums = self.world.summed(sums)
        seen = (sums[1] > 0).nonzero()[:, 0]
        self.normalisers.add(seen, sums[0][seen], sums[1][seen])

    def _take_figures(self, scored: Scored, target: Tensor, policy: Tensor, proposal: Tensor, counts: Tensor) -> None:
        """Means over the answers of all ranks, in nats, of what is worth logging."""
        base = scored.base_log_probs
        ratio = (policy - proposal).exp()
        weights = torch.where(target > -torch.inf, (target - proposal).exp(), 0.0)
        terms = {
            "kl_target_to_policy": kl_from_target(target, policy, proposal),
            "kl_target_to_proposal": kl_from_target(target, proposal, proposal),
            "total_variation": total_variation_to_target(target, policy, proposal),
            "jensen_shannon": jensen_shannon_to_target(target, policy, proposal),
            "kl_to_base": kl_between(policy, base, proposal),
            "entropy": entropy_terms(policy, proposal),
            "share_below_target": (policy < target).double(),
            "share_allowed": ratio * scored.is_allowed,
            "weight": weights,
            "squared_weight": weights**2,
            **{
                f"moment {moment.feature.label}": ratio * scored.features[:, number]
                for number, moment in enumerate(self.settings.target.moments)
            },
        }
        if scored.rewards is not None:
            terms["target_reward"] = ratio * scored.rewards
        sums = torch.stack([*(value.double()[counts].sum() for value in terms.values()), counts.sum().double()])
        *means, count = self.world.summed(sums).tolist()
        found = {name: value / max(count, 1.0) for name, value in zip(terms, means, strict=True)}
        weight, squared = found.pop("weight"), found.pop("squared_weight")
        found["effective_sample_share"] = weight**2 / squared if squared > 0 else 0.0
        self._last = {**found, "num_answers": count}
        added = torch.tensor([found["kl_target_to_policy"], found["kl_target_to_proposal"], 1.0], dtype=torch.float64)
        self._nearness = self._nearness + added

    def _update_proposal(self) -> bool:
        """Takes the student as proposal if, since the last look, it was nearer the target; says whether it did."""
        policy, proposal, _ = self._nearness.tolist()
        self._nearness = torch.zeros(3, dtype=torch.float64)
        if policy >= proposal:
            return False
        _put(self._proposal, _weights(self.student))
        return True

    def _log_probs(self, model: LoadedModel, drawn: Answered) -> Tensor:
        was_training = model.model.training
        reader = LiveTeacher(model, max_tokens=self.settings.max_tokens_per_pass, world=World(0, 1, 0))
        found = answer_log_probs(reader, drawn.sequences)
        model.model.train(was_training)
        return found

    def _parts(self, drawn: Answered) -> list[list[int]]:
        sizes = [len(sequence.prompt_ids) + len(sequence.completion_ids) - 1 for sequence in drawn.sequences]
        cut = balanced_passes if self.form == "by_runs" else padded_passes
        budget = Budget(self.settings.max_tokens_per_pass, self.settings.micro_batch_size)
        return cut(sizes, range(len(sizes)), budget=budget, world_size=1)

    def _pass(self, drawn: Answered, weights: Tensor, part: Sequence[int], *, is_counted: bool) -> MicroBatch:
        sequences = [drawn.sequences[index] for index in part]
        items = [group_item(PromptGroup(s.prompt_ids, (s.completion_ids,))) for s in sequences]
        is_one_row = self.form == "by_runs"
        width = sum(len(i.input_ids) for i in items) if is_one_row else max_width(items, form=self.form)
        pack = pack_items(items, pad_id=self.pad_id, pack_tokens=width)
        lengths = torch.tensor(pack.lengths, dtype=torch.int64)
        return MicroBatch(
            example_ids=tuple(drawn.prompts[index].id for index in part),
            pack=pack,
            runs=runs_of(pack) if is_one_row else None,
            is_branched=pack.is_branched,
            token_answers=torch.arange(len(lengths)).repeat_interleave(lengths),
            answer_lengths=lengths,
            block_sizes=pack.lengths,
            is_counted=is_counted,
            answer_weights=weights[list(part)].float(),
        )

    def _most(self, number: int) -> int:
        held = torch.zeros(self.world.world_size, dtype=torch.int64)
        held[self.world.rank] = number
        return int(self.world.summed(held).max())

    def _counts(self, drawn: Answered, *, is_counted: bool) -> Counts:
        own = torch.zeros(3, dtype=torch.int64)
        if is_counted:
            completions = sum(len(sequence.completion_ids) for sequence in drawn.sequences)
            prompts = sum(len(sequence.prompt_ids) for sequence in drawn.sequences)
            own = torch.tensor([len(drawn.sequences), prompts + completions, completions], dtype=torch.int64)
        return Counts(*(int(value) for value in self.world.summed(own).tolist()))


def _weights(loaded: LoadedModel) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone().contiguous() for name, value in loaded.model.named_parameters()}


def _put(loaded: LoadedModel, weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            parameter.copy_(weights[name])


def _draw_seed(seed: int, step: int) -> int:
    digest = hashlib.sha256(f"f_dpg/{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:7], "little")
