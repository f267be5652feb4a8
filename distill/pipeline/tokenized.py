"""Prepared records as tokens, with what was refused counted and said."""

import logging
from collections.abc import Sequence

from distill.data import (
    Conversation,
    PreferencePair,
    TokenizedConversation,
    TokenizedPair,
    tokenize_conversation,
    tokenize_pair,
)
from distill.errors import DataError
from distill.models import Tokenizer

log = logging.getLogger(__name__)


def tokenized_conversations(
    tokenizer: Tokenizer, conversations: Sequence[Conversation], *, max_length_tokens: int
) -> list[TokenizedConversation]:
    """Conversations as tokens; those with nothing left to learn after truncation are refused and counted."""
    kept = [tokenize_conversation(tokenizer, row, max_length_tokens=max_length_tokens) for row in conversations]
    examples = [row for row in kept if row is not None]
    _report(len(kept), len(examples), "conversations", max_length_tokens)
    return examples


def tokenized_pairs(
    tokenizer: Tokenizer, pairs: Sequence[PreferencePair], *, max_length_tokens: int
) -> list[TokenizedPair]:
    """Pairs as tokens; those with a completion that is empty after truncation are refused and counted."""
    kept = [tokenize_pair(tokenizer, row, max_length_tokens=max_length_tokens) for row in pairs]
    examples = [row for row in kept if row is not None]
    _report(len(kept), len(examples), "pairs", max_length_tokens)
    return examples


def whole_in_both(
    students: Sequence[TokenizedPair],
    teachers: Sequence[TokenizedPair],
    *,
    end_ids: tuple[int, int],
    max_length_tokens: int,
) -> tuple[list[TokenizedPair], list[TokenizedPair]]:
    """The same pairs by two tokenizers, those left out and counted of which either lost a part of an answer.

    What one of them cut off, the other would still score: their sums would be of different texts.

    Args:
        students: as one tokenizer cuts them.
        teachers: as the other does.
        end_ids: the token with which each ends a whole answer.
        max_length_tokens: where both cut; for the message.

    Raises:
        DataError: no pair is left.
    """

    def whole(pairs: Sequence[TokenizedPair], end_id: int) -> dict[str, TokenizedPair]:
        return {p.id: p for p in pairs if p.chosen.completion_ids[-1] == p.rejected.completion_ids[-1] == end_id}

    own, other = whole(students, end_ids[0]), whole(teachers, end_ids[1])
    kept = [pair.id for pair in students if pair.id in own and pair.id in other]
    num_lost = len({pair.id for pair in (*students, *teachers)}) - len(kept)
    if num_lost:
        log.warning("left out %d pairs of which either tokenizer cuts off an answer", num_lost)
    if not kept:
        raise DataError(
            f"none of {num_lost} pairs is whole within max_length_tokens={max_length_tokens} for both tokenizers",
            why="log-probs of different texts cannot be compared",
            fix="raise cache.max_length_tokens and train.max_length_tokens",
        )
    return [own[name] for name in kept], [other[name] for name in kept]


def _report(num_rows: int, num_kept: int, noun: str, max_length_tokens: int) -> None:
    if num_kept < num_rows:
        log.warning(
            "refused %d of %d %s: no completion is left within max_length_tokens=%d",
            num_rows - num_kept,
            num_rows,
            noun,
            max_length_tokens,
        )
    if num_rows and not num_kept:
        raise DataError(
            f"none of {num_rows} {noun} can be trained on",
            why=f"no completion is left within max_length_tokens={max_length_tokens}",
            fix="raise max_length_tokens, or look at the data",
        )
