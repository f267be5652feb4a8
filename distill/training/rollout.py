"""On-policy steps: the student answers the prompts of the batch, and a live teacher reads what it wrote."""

import hashlib
from collections.abc import Mapping, Sequence

import torch

from distill.data import TokenizedPair, TokenizedSequence, step_indices
from distill.data.order import rank_share
from distill.data.prompt_packs import PromptGroup, group_item, pack_items, runs_of
from distill.decoding import SamplingSettings, TransformersGenerator
from distill.decoding.sampling import prompt_draws
from distill.errors import RecipeError
from distill.models import LoadedModel
from distill.objectives import OBJECTIVES, GkdSettings, is_on_policy
from distill.training.engine import zero_stage
from distill.training.feed import Counts, Feed, GlobalBatch, MicroBatch
from distill.training.live_teacher import LiveTeacher
from distill.training.passes import balanced_passes, max_width, padded_passes
from distill.training.settings import TrainSettings

Drawn = tuple[str, TokenizedSequence]
"""An example's id, and its prompt with the answer that the student drew."""


def draws_answers(settings: TrainSettings) -> bool:
    """Whether some steps learn from answers that the student draws."""
    return OBJECTIVES[settings.objective.name].needs_live_teacher(settings.objective)


def require_whole_weights(settings: TrainSettings, plan: Mapping[str, object]) -> None:
    """Refuses to draw answers from a student whose weights are cut over the ranks.

    Raises:
        RecipeError: the objective draws answers, and the memory plan is ZeRO stage 3.
    """
    if draws_answers(settings) and zero_stage(plan) >= 3:
        raise RecipeError(
            f"objective {settings.objective.name} draws answers from the student, and {settings.deepspeed} is ZeRO-3",
            why="ZeRO-3 gathers weights in a pass that all ranks make together, and ranks draw answers of different "
            "lengths",
            fix="train.deepspeed=ds_configs/zero2_offload.json, or train.objective.on_policy_share=0",
        )


class Rollout:
    """Makes the global batches of on-policy steps.

    A prompt's answer is a function of seed, step, prompt and weights, whichever rank draws it and whatever else is
    drawn beside it (but for ties that rounding decides), so that a resumed run draws what the uninterrupted one did.
    Each rank draws the answers to its own share of the prompts.

    Args:
        student: the model inside the engine; it is read with its weights of the moment, without dropout.
        teacher: reads the answers.
        feed: of the training pairs, whose prompts are answered.
        settings: with an objective that draws answers.

    Raises:
        RecipeError: student and teacher have different tokenizers.
    """

    def __init__(self, student: LoadedModel, teacher: LiveTeacher, feed: Feed, settings: TrainSettings) -> None:
        assert isinstance(settings.objective, GkdSettings), "only gkd draws answers"
        self.teacher, self.feed, self.objective = teacher, feed, settings.objective
        self.max_length_tokens = settings.max_length_tokens
        self.num_token_ids = teacher.num_shared_token_ids(student)
        was_training = student.model.training
        self._generator = TransformersGenerator(student)
        student.model.train(was_training)

    def is_due(self, step: int) -> bool:
        """Whether step `step`, counted from 0, learns from answers that the student draws."""
        return is_on_policy(step, seed=self.feed.seed, share=self.objective.on_policy_share)

    def read_ahead(self, step: int) -> GlobalBatch | None:
        """The pairs' own answers and the cache's rows; None for a step whose answers are not drawn yet."""
        return None if self.is_due(step) else self.feed.step(step)

    def batch(self, step: int) -> GlobalBatch:
        """The global batch of an on-policy step, drawn with the student's weights of now."""
        feed = self.feed
        indices = step_indices(len(feed.examples), seed=feed.seed, global_batch_size=feed.batch_size, step=step)
        own = rank_share(range(len(indices)), rank=feed.world.rank, world_size=feed.world.world_size)
        # A rank without a share repeats one example, so that collectives meet.
        drawn = self.answers(indices, step=step, rows=own or [0])
        parts = self._parts(drawn) if own else []
        num_passes = self._most(len(parts))
        passes = [self._pass([drawn[index] for index in part], is_counted=True) for part in parts]
        passes += [self._pass(drawn[:1], is_counted=False)] * (num_passes - len(passes))
        return GlobalBatch(tuple(passes), self._counts(drawn if own else []))

    def answers(self, indices: Sequence[int], *, step: int, rows: Sequence[int] | None = None) -> list[Drawn]:
        """The student's answers to the prompts of these examples, cut where the longest example is cut.

        Args:
            indices: of the examples of the whole batch; a prompt that stands there twice gets two draws.
            step: seeds the draws.
            rows: places in `indices` that are answered; None: all.
        """
        pairs = [self._pair(index) for index in indices]
        prompts = [pair.chosen.prompt_ids for pair in pairs]
        sampling = SamplingSettings(
            temperature=self.objective.sampling_temperature, max_new_tokens=self.objective.max_new_tokens
        )
        draws = prompt_draws(prompts, num_draws=sampling.max_new_tokens, seed=_draw_seed(self.feed.seed, step))
        chosen = list(range(len(indices)) if rows is None else rows)
        answers = self._generator.answer_ids(
            [prompts[row] for row in chosen], sampling, draws=draws[chosen], num_token_ids=self.num_token_ids
        )
        return [
            (pairs[row].id, TokenizedSequence(prompts[row], self._cut(prompts[row], answer)))
            for row, answer in zip(chosen, answers, strict=True)
        ]

    def figures(self, metrics: Mapping[str, float], *, step: int) -> dict[str, float]:
        """A step's metrics, and whether it was on-policy; those of rejected answers, which it then lacks, left out."""
        is_due = self.is_due(step)
        kept = {name: value for name, value in metrics.items() if not (is_due and name.startswith("rejected_"))}
        return {**kept, "is_on_policy": float(is_due)}

    def _pair(self, index: int) -> TokenizedPair:
        example = self.feed.examples[index]
        assert isinstance(example, TokenizedPair), "gkd learns from pairs"
        return example

    def _cut(self, prompt: Sequence[int], answer: Sequence[int]) -> tuple[int, ...]:
        return tuple(answer[: max(1, self.max_length_tokens - len(prompt))])

    def _parts(self, drawn: Sequence[Drawn]) -> list[list[int]]:
        """Which of this rank's answers share a forward pass."""
        sizes = [len(sequence.prompt_ids) + len(sequence.completion_ids) - 1 for _, sequence in drawn]
        cut = balanced_passes if self.feed.form == "by_runs" else padded_passes
        return cut(sizes, range(len(drawn)), budget=self.feed.budget, world_size=1)

    def _pass(self, drawn: Sequence[Drawn], *, is_counted: bool) -> MicroBatch:
        sequences = [sequence for _, sequence in drawn]
        items = [group_item(PromptGroup(s.prompt_ids, (s.completion_ids,))) for s in sequences]
        is_one_row = self.feed.form == "by_runs"
        width = sum(len(i.input_ids) for i in items) if is_one_row else max_width(items, form=self.feed.form)
        pack = pack_items(items, pad_id=self.feed.pad_id, pack_tokens=width)
        lengths = torch.tensor(pack.lengths, dtype=torch.int64)
        return MicroBatch(
            example_ids=tuple(example_id for example_id, _ in drawn),
            pack=pack,
            runs=runs_of(pack) if is_one_row else None,
            is_branched=pack.is_branched,
            # Where a pair's rejected answer would stand there is none.
            token_answers=(2 * torch.arange(len(lengths))).repeat_interleave(lengths),
            answer_lengths=torch.stack([lengths, torch.zeros_like(lengths)], dim=1).flatten(),
            block_sizes=pack.lengths,
            is_counted=is_counted,
            teacher_rows=self.teacher.rows(sequences),
        )

    def _most(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        world = self.feed.world
        held = torch.zeros(world.world_size, dtype=torch.int64)
        held[world.rank] = number
        return int(world.summed(held).max())

    def _counts(self, drawn: Sequence[Drawn]) -> Counts:
        """Examples and tokens of the whole batch, over all ranks."""
        completions = sum(len(sequence.completion_ids) for _, sequence in drawn)
        prompts = sum(len(sequence.prompt_ids) for _, sequence in drawn)
        own = torch.tensor([len(drawn), prompts + completions, completions], dtype=torch.int64)
        return Counts(*(int(value) for value in self.feed.world.summed(own).tolist()))


def _draw_seed(seed: int, step: int) -> int:
    digest = hashlib.sha256(f"rollout/{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:7], "little")
