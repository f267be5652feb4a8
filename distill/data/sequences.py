"""Tokenized examples and the content fingerprint that addresses a sequence in every cache."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass


def sequence_id(prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> str:
    """The hex sha256 over prompt ids and completion ids, each as little-endian int64 after its length.

    The lengths make the border between prompt and completion part of the fingerprint.
    """
    digest = hashlib.sha256()
    for ids in (prompt_ids, completion_ids):
        digest.update(len(ids).to_bytes(8, "little"))
        digest.update(b"".join(int(token).to_bytes(8, "little", signed=True) for token in ids))
    return digest.hexdigest()


@dataclass(frozen=True)
class TokenizedSequence:
    """A prompt and one completion; the completion ends in the end-of-turn token unless it was truncated."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]

    @property
    def sequence_id(self) -> str:
        """The content fingerprint by which caches address this sequence."""
        return sequence_id(self.prompt_ids, self.completion_ids)


@dataclass(frozen=True)
class TokenizedPair:
    """One prompt with both completions, tokenized."""

    id: str
    chosen: TokenizedSequence
    rejected: TokenizedSequence


@dataclass(frozen=True)
class TokenizedConversation:
    """A whole dialogue; `completion_mask[i]` says that token i is the assistant's (end-of-turn included)."""

    id: str
    input_ids: tuple[int, ...]
    completion_mask: tuple[bool, ...]
