"""Which sequence goes in which shard; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

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
class PlannedShard:
    """The sequences of one shard in the order they are written, longest first."""

    number: int
    sequences: tuple[PlannedSequence, ...]

    @property
    def name(self) -> str:
        """The shard's file name."""
        return f"{self.number:05d}.safetensors"

    @property
    def num_tokens(self) -> int:
        """Completion tokens in the shard."""
        return sum(planned.num_tokens for planned in self.sequences)


@dataclass(frozen=True)
class CachePlan:
    """All shards of a cache."""

    shards: tuple[PlannedShard, ...]

    @property
    def num_sequences(self) -> int:
        """Distinct sequences."""
        return sum(len(shard.sequences) for shard in self.shards)

    @property
    def num_tokens(self) -> int:
        """Completion tokens of all shards."""
        return sum(shard.num_tokens for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """The hex sha256 over every shard's sequence ids in their order."""
        return fingerprint([[planned.id for planned in shard.sequences] for shard in self.shards])


def plan_shards(
    sequences: Iterable[TokenizedSequence], *, shard_tokens: int, max_length_tokens: int, vocab_size: int
) -> CachePlan:
    """Cuts sequences into shards in the order they come, each sequence once.

    A shard is closed as soon as it holds `shard_tokens` completion tokens, so only its last sequence
    overshoots. Inside a shard the longest stand first (ties by id), which keeps padding small and shows
    the largest memory need at once.

    Raises:
        CacheError: a sequence has no prompt or no completion, is too long, or has an id outside the vocabulary.
    """
    distinct: dict[str, PlannedSequence] = {}
    for sequence in sequences:
        planned = PlannedSequence(sequence.sequence_id, sequence)
        if planned.id not in distinct:
            _refuse_unscorable(planned, max_length_tokens=max_length_tokens, vocab_size=vocab_size)
            distinct[planned.id] = planned
    groups: list[list[PlannedSequence]] = []
    open_tokens = shard_tokens
    for planned in distinct.values():
        if open_tokens >= shard_tokens:
            groups.append([])
            open_tokens = 0
        groups[-1].append(planned)
        open_tokens += planned.num_tokens
    return CachePlan(
        tuple(
            PlannedShard(number, tuple(sorted(group, key=lambda planned: (-planned.length, planned.id))))
            for number, group in enumerate(groups)
        )
    )


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
