"""Completions of one prompt in one row: the prompt is read once, every completion sees it and itself only."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from distill.data.sequences import TokenizedConversation
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


@dataclass(frozen=True)
class PackItem:
    """What a row holds of one group or dialogue: a token, its position id and its branch at each place.

    `sources` are the places, counted from the item's first, that predict `target_ids`; `lengths` says how many of
    these are of each completion.
    """

    input_ids: Sequence[int]
    position_ids: Sequence[int]
    branch_ids: Sequence[int]
    sources: Sequence[int]
    target_ids: Sequence[int]
    lengths: tuple[int, ...]


def group_item(group: PromptGroup) -> PackItem:
    """A prompt with its completions, the prompt once."""
    return PackItem(
        _inputs(group),
        _positions(group),
        _branches(group),
        _sources(group),
        list(chain(*group.completions)),
        tuple(len(completion) for completion in group.completions),
    )


def dialogue_item(conversation: TokenizedConversation) -> PackItem:
    """A whole dialogue, without what follows its last completion token, which nothing needs to read.

    Raises:
        DataError: it has no completion token after its first.
    """
    targets = [place for place, counts in enumerate(conversation.completion_mask) if counts and place > 0]
    if not targets:
        raise DataError(f"row {conversation.id} has no completion token", why="the loss would count nothing")
    width = targets[-1]
    return PackItem(
        conversation.input_ids[:width],
        range(width),
        [0] * width,
        [place - 1 for place in targets],
        [conversation.input_ids[place] for place in targets],
        (len(targets),),
    )


def pack_groups(groups: Sequence[PromptGroup], *, pad_id: int, pack_tokens: int | None = None) -> PackedBatch:
    """Lays groups out in rows: one group a row, or as many as fit into `pack_tokens` positions.

    Rows stand longest first, ties in the order of the groups.

    Raises:
        DataError: there are no groups, or one has an empty prompt, no completion or an empty completion.
    """
    for number, group in enumerate(groups):
        _check(group, number)
    return pack_items([group_item(group) for group in groups], pad_id=pad_id, pack_tokens=pack_tokens)


def pack_items(items: Sequence[PackItem], *, pad_id: int, pack_tokens: int | None = None) -> PackedBatch:
    """The same of items that are laid out already.

    Raises:
        DataError: there are none.
    """
    if not items:
        raise DataError("a batch of no groups", why="there is nothing to pack")
    sizes = [len(item.input_ids) for item in items]
    rows = rows_of(sizes, capacity=0 if pack_tokens is None else pack_tokens)
    rows.sort(key=lambda row: -sum(sizes[number] for number in row))
    width = sum(sizes[number] for number in rows[0])
    starts = _starts(rows, sizes, width=width)
    sources = chain(*([start + place for place in item.sources] for item, start in zip(items, starts, strict=True)))
    return PackedBatch(
        _filled([list(chain(*(items[number].input_ids for number in row))) for row in rows], width, pad_id),
        _filled([list(chain(*(items[number].position_ids for number in row))) for row in rows], width, 0),
        _filled([list(chain(*([k] * sizes[n] for k, n in enumerate(row)))) for row in rows], width, PADDING),
        _filled([list(chain(*(items[number].branch_ids for number in row))) for row in rows], width, PADDING),
        torch.tensor(list(sources), dtype=torch.int64),
        torch.tensor(list(chain(*(item.target_ids for item in items))), dtype=torch.int64),
        tuple(chain(*(item.lengths for item in items))),
    )


def runs_of(batch: PackedBatch) -> Int[Tensor, "runs 2"]:
    """(branch, length) of the runs of a batch of one row: a prompt's is 0, its completions' 1, 2, ...

    A completion of one token, which no position reads, has no run.
    """
    assert len(batch.input_ids) == 1, "runs are those of one row"
    places = torch.stack([batch.group_ids[0], batch.branch_ids[0]], dim=1)
    runs, lengths = torch.unique_consecutive(places, dim=0, return_counts=True)
    return torch.stack([runs[:, 1], lengths], dim=1)


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


def _sources(group: PromptGroup) -> list[int]:
    last_of_prompt = len(group.prompt_ids) - 1
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
