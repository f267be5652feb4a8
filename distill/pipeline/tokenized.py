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
