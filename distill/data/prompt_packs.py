"""Completions of one prompt in one row: the prompt is read once, every completion sees it and itself only."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from distill.errors import DataError

PADDING = -1


@dataclass(frozen=True)
class PromptGroup:
    """A prompt with the completions that follow it; a completion's last token is a target only."""

    prompt_ids: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]

    @property
    def num_positions(self) -> int:
        """Tokens that the model has to read."""
        return len(self.prompt_ids) + sum(len(completion) - 1 for completion in self.completions)

    @property
    def num_tokens(self) -> int:
        """Completion tokens: what is predicted."""
        return sum(len(completion) for completion in self.completions)


@dataclass(frozen=True)
class PackedBatch:
    """Rows of groups, padded on the right; completion tokens are numbered in the order of the groups given.

    Position ids start again after the prompt in every completion. `group_ids` counts the groups of a row,
    `branch_ids` says 0 for a prompt and 1, 2, ... for its completions; both are -1 under padding. Completion token
    t is `target_ids[t]`, predicted by position `source_index[t]` of the flattened rows: the first token of every
    completion by the last token of its prompt.
    """

    input_ids: Int[Tensor, "rows width"]
    position_ids: Int[Tensor, "rows width"]
    group_ids: Int[Tensor, "rows width"]
    branch_ids: Int[Tensor, "rows width"]
    source_index: Int[Tensor, " tokens"]
    target_ids: Int[Tensor, " tokens"]
    lengths: tuple[int, ...]

    @property
    def is_branched(self) -> bool:
        """Whether a row holds more than one prompt with one completion."""
        return bool(((self.branch_ids > 1) | (self.group_ids > 0)).any())

    def attention_mask(self, *, window: int | None = None) -> Bool[Tensor, "rows 1 width width"]:
        """Who sees whom: a token sees itself and, before it, its prompt and its own completion.

        Args:
            window: only tokens less than this many positions away are seen (sliding-window attention).
        """
        group, branch, position = self.group_ids, self.branch_ids, self.position_ids
        order = torch.arange(group.shape[1], device=group.device)
        sees = (order[:, None] >= order)[None] & (group[:, :, None] == group[:, None, :])
        sees &= (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
        if window is not None:
            sees &= position[:, :, None] - position[:, None, :] < window
        return sees[:, None]

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The same batch on `device`."""
        return PackedBatch(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.group_ids.to(device),
            self.branch_ids.to(device),
            self.source_index.to(device),
            self.target_ids.to(device),
            self.lengths,
        )


def pack_groups(groups: Sequence[PromptGroup], *, pad_id: int, pack_tokens: int | None = None) -> PackedBatch:
    """Lays groups out in rows: one group a row, or as many as fit into `pack_tokens` positions.

    Rows stand longest first, ties in the order of the groups.

    Raises:
        DataError: there are no groups, or one has an empty prompt, no completion or an empty completion.
    """
    if not groups:
        raise DataError("a batch of no groups", why="there is nothing to pack")
    for number, group in enumerate(groups):
        _check(group, number)
    sizes = [group.num_positions for group in groups]
    rows = rows_of(sizes, capacity=0 if pack_tokens is None else pack_tokens)
    rows.sort(key=lambda row: -sum(sizes[number] for number in row))
    width = sum(sizes[number] for number in rows[0])
    starts = _starts(rows, sizes, width=width)
    sources = [_source_index(group, start) for group, start in zip(groups, starts, strict=True)]
    return PackedBatch(
        _filled([list(chain(*(_inputs(groups[number]) for number in row))) for row in rows], width, pad_id),
        _filled([list(chain(*(_positions(groups[number]) for number in row))) for row in rows], width, 0),
        _filled([list(chain(*([k] * sizes[n] for k, n in enumerate(row)))) for row in rows], width, PADDING),
        _filled([list(chain(*(_branches(groups[number]) for number in row))) for row in rows], width, PADDING),
        torch.tensor(list(chain(*sources)), dtype=torch.int64),
        torch.tensor([token for group in groups for ids in group.completions for token in ids], dtype=torch.int64),
        tuple(len(completion) for group in groups for completion in group.completions),
    )


def rows_of(sizes: Sequence[int], *, capacity: int) -> list[list[int]]:
    """First fit: each item in turn goes to the first row with room for it; one larger than a row stands alone."""
    rows: list[list[int]] = []
    room: list[int] = []
    for item, size in enumerate(sizes):
        fitting = next((row for row, left in enumerate(room) if size <= left), None)
        if fitting is None:
            rows.append([item])
            room.append(capacity - size)
        else:
            rows[fitting].append(item)
            room[fitting] -= size
    return rows


def _starts(rows: Sequence[Sequence[int]], sizes: Sequence[int], *, width: int) -> list[int]:
    """Where each group begins in the flattened rows."""
    starts = [0] * len(sizes)
    for number, row in enumerate(rows):
        at = number * width
        for item in row:
            starts[item] = at
            at += sizes[item]
    return starts


def _inputs(group: PromptGroup) -> list[int]:
    return [*group.prompt_ids, *(token for completion in group.completions for token in completion[:-1])]


def _positions(group: PromptGroup) -> list[int]:
    length = len(group.prompt_ids)
    branches = (range(length, length + len(completion) - 1) for completion in group.completions)
    return [*range(length), *chain(*branches)]


def _branches(group: PromptGroup) -> list[int]:
    branches = ([number] * (len(completion) - 1) for number, completion in enumerate(group.completions, start=1))
    return [*([0] * len(group.prompt_ids)), *chain(*branches)]


def _source_index(group: PromptGroup, start: int) -> list[int]:
    last_of_prompt = start + len(group.prompt_ids) - 1
    index: list[int] = []
    at = last_of_prompt + 1
    for completion in group.completions:
        index += [last_of_prompt, *range(at, at + len(completion) - 1)]
        at += len(completion) - 1
    return index


def _filled(rows: Sequence[list[int]], width: int, filler: int) -> Int[Tensor, "rows width"]:
    return torch.tensor([row + [filler] * (width - len(row)) for row in rows], dtype=torch.int64)


def _check(group: PromptGroup, number: int) -> None:
    if not group.prompt_ids:
        raise DataError(f"group {number} has an empty prompt", why="nothing predicts its completions' first tokens")
    if not group.completions or not all(group.completions):
        empty = "an empty completion" if group.completions else "no completion"
        raise DataError(f"group {number} has {empty}", why="it predicts nothing")
