"""What each forward pass gets: padded rows joined with cached scores; which rows when is a pure function."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data import (
    SequenceBatch,
    TokenizedConversation,
    TokenizedPair,
    conversation_row,
    pad_rows,
    sequence_row,
    step_indices,
)
from distill.models.world import World
from distill.training.cached_scores import CachedScores
from distill.training.engine import accumulation_steps
from distill.training.settings import TrainSettings

Examples: TypeAlias = Sequence[TokenizedConversation] | Sequence[TokenizedPair]
Item = TypeVar("Item")


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
    """One forward pass. Pairs: all chosen rows, then the rejected rows in the same order.

    `token_rows` says to which row each completion token belongs (tokens stand in row-major order), `row_lengths`
    how many a row has. A pass that does not count has `is_counted` False: a rank without rows of its own repeats
    one, so that collectives meet.
    """

    rows: SequenceBatch
    target_ids: Int[Tensor, " tokens"]
    token_rows: Int[Tensor, " tokens"]
    row_lengths: Int[Tensor, " rows"]
    is_counted: bool
    reference_log_probs: Float[Tensor, " rows"] | None = None
    teacher_log_probs: Float[Tensor, " rows"] | None = None
    teacher_hidden_states: Float[Tensor, "tokens hidden"] | None = None

    def to(self, device: torch.device) -> "MicroBatch":
        """The same pass on `device`."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.to(device)

        return replace(
            self,
            rows=self.rows.to(device),
            target_ids=self.target_ids.to(device),
            token_rows=self.token_rows.to(device),
            row_lengths=self.row_lengths.to(device),
            reference_log_probs=moved(self.reference_log_probs),
            teacher_log_probs=moved(self.teacher_log_probs),
            teacher_hidden_states=moved(self.teacher_hidden_states),
        )


@dataclass(frozen=True)
class GlobalBatch:
    """One optimizer step as one rank sees it."""

    passes: tuple[MicroBatch, ...]
    counts: Counts


def counts_of(example: TokenizedConversation | TokenizedPair) -> Counts:
    """Tokens of one example; the first token of a row is predicted by none and so counts in no loss."""
    if isinstance(example, TokenizedConversation):
        return Counts(1, len(example.input_ids), sum(example.completion_mask[1:]))
    completions = len(example.chosen.completion_ids) + len(example.rejected.completion_ids)
    prompts = len(example.chosen.prompt_ids) + len(example.rejected.prompt_ids)
    return Counts(1, prompts + completions, completions)


def length_of(example: TokenizedConversation | TokenizedPair) -> int:
    """Tokens of an example; of a pair, those of its longer row."""
    if isinstance(example, TokenizedConversation):
        return len(example.input_ids)
    return max(len(s.prompt_ids) + len(s.completion_ids) for s in (example.chosen, example.rejected))


def spread(items: Sequence[Item], *, num_parts: int) -> list[list[Item]]:
    """Cuts a sequence into `num_parts` runs whose sizes differ by one at most; the first ones are the longer."""
    size, longer = divmod(len(items), num_parts)
    ends = [size * part + min(part, longer) for part in range(num_parts + 1)]
    return [list(items[start:end]) for start, end in itertools.pairwise(ends)]


def shares(
    lengths: Sequence[int], indices: Sequence[int], *, num_passes: int, rank: int, world_size: int
) -> list[list[int]]:
    """The examples of each forward pass of `rank`, alike in length so that little is padded.

    Sorted by length (longest first, ties by index) and cut into runs; pass p of rank r takes run p * world_size + r,
    so that the ranks of one pass work on rows of about one length.
    """
    ordered = sorted(indices, key=lambda index: (-lengths[index], index))
    runs = spread(ordered, num_parts=num_passes * world_size)
    return [runs[number * world_size + rank] for number in range(num_passes)]


class Feed:
    """Cuts global batches out of the examples and joins them with what the caches hold."""

    def __init__(
        self,
        examples: Examples,
        settings: TrainSettings,
        *,
        pad_id: int,
        seed: int,
        world: World,
        scores: CachedScores | None = None,
    ) -> None:
        self.examples, self.batch_size, self.pad_id, self.seed = examples, settings.global_batch_size, pad_id, seed
        self.world, self.scores = world, scores
        self.num_passes = accumulation_steps(settings, world_size=world.world_size)
        self._lengths = [length_of(example) for example in examples]
        self._counts = [counts_of(example) for example in examples]

    def step(self, step: int) -> GlobalBatch:
        """The global batch of optimizer step `step`, counted from 0."""
        return self._batch(
            step_indices(len(self.examples), seed=self.seed, global_batch_size=self.batch_size, step=step)
        )

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
        parts = shares(
            self._lengths,
            indices,
            num_passes=self.num_passes,
            rank=self.world.rank,
            world_size=self.world.world_size,
        )
        passes = tuple(self._pass(part or [indices[0]], is_counted=bool(part)) for part in parts)
        return GlobalBatch(passes, sum((self._counts[index] for index in indices), Counts()))

    def _pass(self, indices: Sequence[int], *, is_counted: bool) -> MicroBatch:
        examples = [self.examples[index] for index in indices]
        pairs = [example for example in examples if isinstance(example, TokenizedPair)]
        if pairs:
            in_rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
            rows = pad_rows([sequence_row(sequence) for sequence in in_rows], pad_id=self.pad_id)
        else:
            rows = pad_rows(
                [conversation_row(e) for e in examples if isinstance(e, TokenizedConversation)], pad_id=self.pad_id
            )
        scores = self.scores
        return MicroBatch(
            rows=rows,
            target_ids=rows.target_ids[rows.completion_mask],
            token_rows=rows.completion_mask.nonzero()[:, 0],
            row_lengths=rows.completion_mask.sum(-1),
            is_counted=is_counted,
            reference_log_probs=None if scores is None else scores.reference(rows.row_ids),
            teacher_log_probs=None if scores is None else scores.teacher(rows.row_ids),
            teacher_hidden_states=None if scores is None else scores.hidden_states(rows.row_ids),
        )
