"""Rows of token ids to padded batches, and rows to batches of like length; the only next-token shift."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from distill.data.sequences import TokenizedConversation, TokenizedSequence
from distill.errors import DataError

Row = tuple[Sequence[int], Sequence[bool], str]


@dataclass(frozen=True)
class SequenceBatch:
    """Rows padded on the right; position t holds token t and, as its target, token t + 1.

    `completion_mask` is true where the *target* is a completion token: row i of a completion's distribution is
    what position `prompt length - 1 + i` predicts.
    """

    input_ids: Int[Tensor, "rows sequence"]
    attention_mask: Bool[Tensor, "rows sequence"]
    position_ids: Int[Tensor, "rows sequence"]
    target_ids: Int[Tensor, "rows sequence"]
    completion_mask: Bool[Tensor, "rows sequence"]
    row_ids: tuple[str, ...]

    def to(self, device: torch.device | str) -> "SequenceBatch":
        """The same batch on `device`."""
        return SequenceBatch(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.position_ids.to(device),
            self.target_ids.to(device),
            self.completion_mask.to(device),
            self.row_ids,
        )


def sequence_row(sequence: TokenizedSequence) -> Row:
    """The row of a prompt with its completion, under its sequence id."""
    mask = [False] * len(sequence.prompt_ids) + [True] * len(sequence.completion_ids)
    return (*sequence.prompt_ids, *sequence.completion_ids), mask, sequence.sequence_id


def conversation_row(conversation: TokenizedConversation) -> Row:
    """The row of a dialogue, under its own id."""
    return conversation.input_ids, conversation.completion_mask, conversation.id


def pad_rows(rows: Sequence[Row], *, pad_id: int) -> SequenceBatch:
    """Shifts and pads rows of (token ids, which of them are completion tokens, row id).

    A row of n tokens fills n - 1 positions: its last token is a target only. Padding continues the position ids
    of its row, carries `pad_id` as input and target, and counts nowhere.

    Raises:
        DataError: no rows; a row whose flags do not match its ids, that has fewer than two tokens, no completion
            token, or a completion token with nothing before it.
    """
    if not rows:
        raise DataError("a batch of no rows", why="there is nothing to pad")
    for ids, flags, row_id in rows:
        _check(ids, flags, row_id=row_id)
    width = max(len(ids) for ids, _, _ in rows) - 1
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    target_ids = torch.full((len(rows), width), pad_id, dtype=torch.int64)
    attention_mask = torch.zeros((len(rows), width), dtype=torch.bool)
    completion_mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for number, (ids, flags, _) in enumerate(rows):
        length = len(ids) - 1
        tokens = torch.tensor(ids, dtype=torch.int64)
        input_ids[number, :length] = tokens[:-1]
        target_ids[number, :length] = tokens[1:]
        attention_mask[number, :length] = True
        completion_mask[number, :length] = torch.tensor(flags, dtype=torch.bool)[1:]
    position_ids = torch.arange(width).expand(len(rows), width).contiguous()
    row_ids = tuple(row_id for _, _, row_id in rows)
    return SequenceBatch(input_ids, attention_mask, position_ids, target_ids, completion_mask, row_ids)


def batches_by_length(lengths: Sequence[int], *, max_tokens: int | None, max_rows: int) -> list[list[int]]:
    """Groups indices into batches of like length, the longest first, so that a batch that does not fit fails at once.

    A batch holds at most `max_rows` rows and, padded to its longest, at most `max_tokens` tokens; a row longer
    than `max_tokens` makes a batch of its own. Rows of equal length keep their order.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        if batches and len(batches[-1]) < max_rows:
            padded = lengths[batches[-1][0]] * (len(batches[-1]) + 1)
            if max_tokens is None or padded <= max_tokens:
                batches[-1].append(index)
                continue
        batches.append([index])
    return batches


def _check(ids: Sequence[int], flags: Sequence[bool], *, row_id: str) -> None:
    if len(ids) != len(flags):
        raise DataError(f"row {row_id} has {len(ids)} tokens and {len(flags)} completion flags")
    if len(ids) < 2:
        raise DataError(f"row {row_id} has {len(ids)} token(s)", why="a next-token target needs two")
    if flags[0]:
        raise DataError(f"row {row_id} begins with a completion token", why="nothing stands before it to predict it")
    if not any(flags):
        raise DataError(f"row {row_id} has no completion token", why="the loss would count nothing")
