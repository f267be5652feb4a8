"""What each forward pass gets: packed rows joined with cached scores; which examples when is a pure function."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data import TokenizedConversation, TokenizedPair, step_indices
from distill.data.prompt_packs import PackedBatch, pack_items, runs_of
from distill.models.packed import PackForm
from distill.models.world import World
from distill.objectives import TeacherRows, moved_rows
from distill.training.cached_scores import CachedScores
from distill.training.passes import (
    Budget,
    balanced_passes,
    groups_of,
    items_of,
    max_width,
    padded_passes,
    size_of,
)
from distill.training.settings import TrainSettings

Examples: TypeAlias = Sequence[TokenizedConversation] | Sequence[TokenizedPair]


@dataclass(frozen=True)
class Counts:
    """What the losses of one global batch are divided by, over all micro batches and ranks."""

    num_examples: int = 0
    num_tokens: int = 0
    num_completion_tokens: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.num_examples + other.num_examples,
            self.num_tokens + other.num_tokens,
            self.num_completion_tokens + other.num_completion_tokens,
        )


@dataclass(frozen=True)
class MicroBatch:
    """One forward pass: packed rows, joined with what the caches say.

    Of pairs, the answers are numbered chosen, rejected, chosen, rejected, ...; of dialogues each is one answer.
    `token_answers` says to which answer each completion token belongs, `answer_lengths` how many an answer has,
    `block_sizes` how many an example has; `teacher_lengths` counts the teacher's own tokens of an answer, where its
    tokenizer is another; `answer_weights` how far each answer's log-prob is to be raised,
    where that is the loss. `runs` stays on the CPU. A pass that does not count has `is_counted` False:
    a rank without examples of its own repeats one, so that collectives meet.
    """

    example_ids: tuple[str, ...]
    pack: PackedBatch
    runs: Int[Tensor, "runs 2"] | None
    is_branched: bool
    token_answers: Int[Tensor, " tokens"]
    answer_lengths: Int[Tensor, " answers"]
    block_sizes: tuple[int, ...]
    is_counted: bool
    reference_log_probs: Float[Tensor, " answers"] | None = None
    teacher_log_probs: Float[Tensor, " answers"] | None = None
    teacher_lengths: Int[Tensor, " answers"] | None = None
    teacher_rows: TeacherRows | None = None
    answer_weights: Float[Tensor, " answers"] | None = None

    @property
    def target_ids(self) -> Int[Tensor, " tokens"]:
        """The completion tokens."""
        return self.pack.target_ids

    def to(self, device: torch.device) -> "MicroBatch":
        """The same pass on `device`."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return replace(
            self,
            pack=self.pack.to(device),
            token_answers=self.token_answers.to(device),
            answer_lengths=self.answer_lengths.to(device),
            reference_log_probs=moved(self.reference_log_probs),
            teacher_log_probs=moved(self.teacher_log_probs),
            teacher_lengths=moved(self.teacher_lengths),
            answer_weights=moved(self.answer_weights),
            teacher_rows=None if self.teacher_rows is None else moved_rows(self.teacher_rows, device),
        )


@dataclass(frozen=True)
class GlobalBatch:
    """One optimizer step as one rank sees it."""

    passes: tuple[MicroBatch, ...]
    counts: Counts


def counts_of(example: TokenizedConversation | TokenizedPair) -> Counts:
    """Tokens of one example, a pair's prompt once; a row's first token is predicted by none and counts in no loss."""
    if isinstance(example, TokenizedConversation):
        return Counts(1, len(example.input_ids), sum(example.completion_mask[1:]))
    completions = len(example.chosen.completion_ids) + len(example.rejected.completion_ids)
    prompts = sum(len(group.prompt_ids) for group in groups_of(example, shares_prompt=True))
    return Counts(1, prompts + completions, completions)


class Feed:
    """Cuts global batches out of the examples and joins them with what the caches hold.

    Args:
        examples: all of one kind.
        settings: the batch, and how much one forward pass may hold.
        pad_id: stands where rows are padded.
        seed: of the order.
        world: whose ranks share each batch.
        form: how the student takes packed rows.
        scores: what the caches say about the examples.
    """

    def __init__(
        self,
        examples: Examples,
        settings: TrainSettings,
        *,
        pad_id: int,
        seed: int,
        world: World,
        form: PackForm | None = "by_runs",
        scores: CachedScores | None = None,
    ) -> None:
        self.examples, self.batch_size, self.pad_id, self.seed = examples, settings.global_batch_size, pad_id, seed
        self.world, self.scores, self.form = world, scores, form
        self.budget = Budget(settings.max_tokens_per_pass, settings.micro_batch_size)
        self._sizes = [size_of(example, form=form) for example in examples]
        self._counts = [counts_of(example) for example in examples]

    def step(self, step: int) -> GlobalBatch:
        """The global batch of optimizer step `step`, counted from 0."""
        return self._batch(self.indices(step))

    def indices(self, step: int) -> Sequence[int]:
        """Which examples the global batch of optimizer step `step` holds, over all ranks."""
        return step_indices(len(self.examples), seed=self.seed, global_batch_size=self.batch_size, step=step)

    def pass_of(self, indices: Sequence[int]) -> MicroBatch:
        """These examples in one forward pass, whatever the budget."""
        return self._pass(indices, is_counted=True)

    @property
    def num_batches(self) -> int:
        """Global batches that hold every example once."""
        return -(-len(self.examples) // self.batch_size)

    @property
    def all_counts(self) -> Counts:
        """The counts of all examples together."""
        return sum(self._counts, Counts())

    def in_order(self, number: int) -> GlobalBatch:
        """Batch `number` of the examples as they stand, for a held-out loss; the last may be smaller."""
        everything = range(len(self.examples))
        return self._batch(everything[number * self.batch_size : (number + 1) * self.batch_size])

    def _batch(self, indices: Sequence[int]) -> GlobalBatch:
        cut = balanced_passes if self.form == "by_runs" else padded_passes
        parts = cut(self._sizes, indices, budget=self.budget, world_size=self.world.world_size)
        own = parts[self.world.rank :: self.world.world_size]
        passes = tuple(self._pass(part or [indices[0]], is_counted=bool(part)) for part in own)
        return GlobalBatch(passes, sum((self._counts[index] for index in indices), Counts()))

    def _pass(self, indices: Sequence[int], *, is_counted: bool) -> MicroBatch:
        examples = [self.examples[index] for index in indices]
        items = [items_of(example, form=self.form) for example in examples]
        is_one_row = self.form == "by_runs"
        in_rows = [item for own in items for item in own]
        width = sum(len(item.input_ids) for item in in_rows) if is_one_row else max_width(in_rows, form=self.form)
        pack = pack_items(in_rows, pad_id=self.pad_id, pack_tokens=width)
        lengths = torch.tensor(pack.lengths, dtype=torch.int64)
        scores = self.scores
        ids = [s.sequence_id for e in examples if isinstance(e, TokenizedPair) for s in (e.chosen, e.rejected)]
        return MicroBatch(
            example_ids=tuple(example.id for example in examples),
            pack=pack,
            runs=runs_of(pack) if is_one_row else None,
            is_branched=pack.is_branched,
            token_answers=torch.arange(len(lengths)).repeat_interleave(lengths),
            answer_lengths=lengths,
            block_sizes=tuple(sum(sum(item.lengths) for item in own) for own in items),
            is_counted=is_counted,
            reference_log_probs=None if scores is None else scores.reference(ids),
            teacher_log_probs=None if scores is None else scores.teacher(ids),
            teacher_lengths=None if scores is None else scores.teacher_lengths(ids),
            teacher_rows=None if scores is None else scores.rows(ids),
        )
