"""Which sequence in which shard and in which batch; pure, so that every worker cuts the work alike."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from distill.data.prompt_packs import PromptGroup
from distill.data.sequences import TokenizedSequence
from distill.errors import CacheError
from distill.files import fingerprint


@dataclass(frozen=True)
class PlannedSequence:
    """A sequence with its id, computed once."""

    id: str
    sequence: TokenizedSequence

    @property
    def num_tokens(self) -> int:
        """Completion tokens: the rows this sequence takes in its shard."""
        return len(self.sequence.completion_ids)

    @property
    def length(self) -> int:
        """Prompt and completion tokens together: what the teacher has to read."""
        return len(self.sequence.prompt_ids) + len(self.sequence.completion_ids)


@dataclass(frozen=True)
class PlannedGroup:
    """Sequences of one prompt that came together (chosen and rejected): the prompt is scored once for all."""

    sequences: tuple[PlannedSequence, ...]

    @cached_property
    def num_positions(self) -> int:
        """Tokens that the teacher reads when the group shares a row."""
        prompt = len(self.sequences[0].sequence.prompt_ids)
        return prompt + sum(planned.num_tokens - 1 for planned in self.sequences)

    @property
    def num_tokens(self) -> int:
        """Completion tokens."""
        return sum(planned.num_tokens for planned in self.sequences)

    @property
    def prompt_group(self) -> PromptGroup:
        """The tokens, ready to be packed."""
        completions = tuple(planned.sequence.completion_ids for planned in self.sequences)
        return PromptGroup(self.sequences[0].sequence.prompt_ids, completions)


@dataclass(frozen=True)
class PlannedBatch:
    """The groups of one forward pass; `row_tokens` positions make a row, and short groups share one."""

    groups: tuple[PlannedGroup, ...]
    row_tokens: int

    @property
    def sequences(self) -> tuple[PlannedSequence, ...]:
        """All sequences in the order of their rows in the shard."""
        return tuple(planned for group in self.groups for planned in group.sequences)

    @property
    def num_tokens(self) -> int:
        """Completion tokens."""
        return sum(group.num_tokens for group in self.groups)

    @property
    def num_positions(self) -> int:
        """Tokens that the teacher reads, padding left out."""
        return sum(group.num_positions for group in self.groups)

    def cut(self, max_positions: int) -> tuple["PlannedBatch", ...]:
        """The batch in parts of at most so many positions, in order; one sequence alone may have more."""
        parts: list[list[PlannedGroup]] = []
        room = 0
        for piece in (piece for group in self.groups for piece in _pieces(group, max_positions)):
            if not parts or piece.num_positions > room:
                parts.append([])
                room = max_positions
            parts[-1].append(piece)
            room -= piece.num_positions
        return tuple(_batch(part) for part in parts)


@dataclass(frozen=True)
class PlannedShard:
    """The groups of one shard in the order they are written, those with most to read first."""

    number: int
    groups: tuple[PlannedGroup, ...]

    @property
    def name(self) -> str:
        """The shard's file name, the same in every tier's folder."""
        return f"{self.number:05d}.safetensors"

    @cached_property
    def sequences(self) -> tuple[PlannedSequence, ...]:
        """All sequences in the order they are written."""
        return tuple(planned for group in self.groups for planned in group.sequences)

    @cached_property
    def num_tokens(self) -> int:
        """Completion tokens in the shard."""
        return sum(group.num_tokens for group in self.groups)

    def batches(self, max_batch_tokens: int, *, shares_prompts: bool = True) -> tuple[PlannedBatch, ...]:
        """The shard's forward passes in order, a function of the plan alone.

        A batch is as wide as its longest row and holds at most `max_batch_tokens` positions, padding included; a
        sequence longer than that makes a batch of its own.

        Args:
            max_batch_tokens: positions of one forward pass.
            shares_prompts: whether the teacher reads the prompt of a group once; else every sequence has its row.
        """
        groups = [piece for group in self.groups for piece in _pieces(group, max_batch_tokens if shares_prompts else 0)]
        batches: list[PlannedBatch] = []
        members: list[PlannedGroup] = []
        room: list[int] = []
        width = 0
        for group in groups:
            size = group.num_positions
            width = max(width, size)
            fitting = next((row for row, left in enumerate(room) if shares_prompts and size <= left), None)
            if fitting is not None:
                room[fitting] -= size
            else:
                if members and width * (len(room) + 1) > max_batch_tokens:
                    batches.append(_batch(members))
                    members, room, width = [], [], size
                room.append(width - size)
            members.append(group)
        return (*batches, _batch(members))


@dataclass(frozen=True)
class CachePlan:
    """All shards of a cache."""

    shards: tuple[PlannedShard, ...]

    @property
    def num_sequences(self) -> int:
        """Distinct sequences."""
        return sum(len(shard.sequences) for shard in self.shards)

    @cached_property
    def num_tokens(self) -> int:
        """Completion tokens of all shards."""
        return sum(shard.num_tokens for shard in self.shards)

    @property
    def longest(self) -> int:
        """Prompt and completion tokens of the longest sequence."""
        return max((planned.length for shard in self.shards for planned in shard.sequences), default=0)

    @cached_property
    def fingerprint(self) -> str:
        """The hex sha256 over every shard's sequence ids in their order."""
        return fingerprint([[planned.id for planned in shard.sequences] for shard in self.shards])


def plan_shards(
    sequences: Iterable[TokenizedSequence], *, shard_tokens: int, max_length_tokens: int, vocab_size: int
) -> CachePlan:
    """Cuts sequences into shards in the order they come, each sequence once.

    Sequences of one prompt that come one after the other stay in one shard as a group. A shard is closed as soon as
    it holds `shard_tokens` completion tokens, so only its last group overshoots. Inside a shard the groups with most
    to read stand first (ties by id), which keeps padding small and shows the largest memory need at once.

    Raises:
        CacheError: a sequence has no prompt or no completion, is too long, or has an id outside the vocabulary.
    """
    distinct: dict[str, PlannedSequence] = {}
    for sequence in sequences:
        planned = PlannedSequence(sequence.sequence_id, sequence)
        if planned.id not in distinct:
            _refuse_unscorable(planned, max_length_tokens=max_length_tokens, vocab_size=vocab_size)
            distinct[planned.id] = planned
    shards: list[list[PlannedGroup]] = []
    open_tokens = shard_tokens
    for _, members in groupby(distinct.values(), key=lambda planned: planned.sequence.prompt_ids):
        group = PlannedGroup(tuple(sorted(members, key=lambda planned: (-planned.length, planned.id))))
        if open_tokens >= shard_tokens:
            shards.append([])
            open_tokens = 0
        shards[-1].append(group)
        open_tokens += group.num_tokens
    return CachePlan(
        tuple(
            PlannedShard(number, tuple(sorted(groups, key=lambda group: (-group.num_positions, group.sequences[0].id))))
            for number, groups in enumerate(shards)
        )
    )


def _batch(groups: Sequence[PlannedGroup]) -> PlannedBatch:
    return PlannedBatch(tuple(groups), max(group.num_positions for group in groups))


def _pieces(group: PlannedGroup, max_positions: int) -> list[PlannedGroup]:
    """The group, or parts of it that are read one after the other where it is larger than a whole batch."""
    if group.num_positions <= max_positions:
        return [group]
    pieces: list[list[PlannedSequence]] = []
    for planned in group.sequences:
        if pieces and PlannedGroup((*pieces[-1], planned)).num_positions <= max_positions:
            pieces[-1].append(planned)
        else:
            pieces.append([planned])
    return [PlannedGroup(tuple(piece)) for piece in pieces]


def _refuse_unscorable(planned: PlannedSequence, *, max_length_tokens: int, vocab_size: int) -> None:
    name = f"sequence {planned.id[:12]}"
    sequence = planned.sequence
    if not sequence.prompt_ids or not sequence.completion_ids:
        empty = "completion" if sequence.prompt_ids else "prompt"
        raise CacheError(
            f"{name} has an empty {empty}",
            why="a token is scored by the token before it, and a sequence needs at least one of each",
            fix="drop the example when tokenizing",
        )
    if planned.length > max_length_tokens:
        raise CacheError(
            f"{name} has {planned.length} tokens, cache.max_length_tokens is {max_length_tokens}",
            why="a sequence cut here would not be found under its id in training",
            fix=f"truncate when tokenizing, or set cache.max_length_tokens={planned.length}",
        )
    lowest = min(*sequence.prompt_ids, *sequence.completion_ids)
    highest = max(*sequence.prompt_ids, *sequence.completion_ids)
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise CacheError(
            f"{name} has token id {wrong}, the teacher's vocabulary has {vocab_size} tokens",
            why="the sequence was tokenized for another model",
            fix="tokenize with the teacher's tokenizer",
        )
