"""What every codec can do, and the one loop that encodes: a head product and an exp a chunk, for all tiers together."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.rows import EncodedRows
from distill.teacher_cache.codecs.tier import CodecName, HeadShape, TierSettings

# Logits held at once by a head product: 64 MiB in float32.
MAX_LOGITS = 2**24
# On a CPU a product is worked on in pieces of 4 MiB, which stay in its cache; on others in one.
PIECE_LOGITS = 2**20
LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class SequencePart:
    """Tokens `start` to `stop` of a sequence of `length` tokens."""

    sequence_id: str
    length: int
    start: int
    stop: int


class TokenChunk:
    """Some tokens on the model's device; what several codecs need is computed once, when first asked for."""

    def __init__(
        self,
        hidden_states: Float[Tensor, "tokens hidden"],
        target_ids: Int[Tensor, " tokens"],
        *,
        logits: Float[Tensor, "tokens vocab"] | None,
        parts: Sequence[SequencePart],
    ) -> None:
        self.hidden_states = hidden_states
        self.target_ids = target_ids
        self.parts = parts
        self._logits = logits

    @property
    def logits(self) -> Float[Tensor, "tokens vocab"]:
        """The true logits, not normalised."""
        assert self._logits is not None, "a codec that reads logits has needs_logits"
        return self._logits

    @cached_property
    def peaks(self) -> Float[Tensor, "tokens 1"]:
        """The largest logit of each token."""
        return self.logits.amax(-1, keepdim=True)

    @cached_property
    def weights(self) -> Float[Tensor, "tokens vocab"]:
        """exp(logits - peaks): probabilities before they are divided by `totals`."""
        # exp2 takes half the time of exp on a CPU; the product rounds less than the logits themselves are off.
        return torch.sub(self.logits, self.peaks).mul_(LOG2_E).exp2_()

    @cached_property
    def totals(self) -> Float[Tensor, "tokens 1"]:
        """Sum of the weights, at least 1."""
        return self.weights.sum(-1, keepdim=True)

    @cached_property
    def log_normalisers(self) -> Float[Tensor, "tokens 1"]:
        """logsumexp of the logits."""
        return self.totals.log() + self.peaks

    def log_probs_of(self, logits: Float[Tensor, "tokens some"]) -> Float[Tensor, "tokens some"]:
        """Some of each token's logits as log-probs; the peak goes first, so that large logits lose no digits."""
        return logits - self.peaks - self.totals.log()


class Codec(ABC):
    """One way to write down what the teacher says about a token; an instance belongs to a tier and a head's shape."""

    name: ClassVar[CodecName]
    needs_logits: ClassVar[bool]  # encoding takes a head product
    needs_head: ClassVar[bool]  # decoding takes the head
    has_distributions: ClassVar[bool]  # whole distributions can be had again
    summary: ClassVar[str]

    def __init__(self, settings: TierSettings, shape: HeadShape) -> None:
        assert settings.codec == self.name
        self.settings = settings
        self.shape = shape

    @property
    @abstractmethod
    def row_bytes(self) -> int | None:
        """Bytes that one completion token takes in `records`; None: it varies."""

    def bytes_per_token(self) -> float:
        """Bytes of one completion token on disk, headers and the head (stored once) left out."""
        assert self.row_bytes is not None
        return float(self.row_bytes)

    def encode(
        self,
        hidden_states: Float[Tensor, "tokens hidden"],
        target_ids: Int[Tensor, " tokens"],
        *,
        head: OutputHead,
        sequence_ids: Sequence[str],
        lengths: Sequence[int],
    ) -> EncodedRows:
        """Rows of one tier; see `encode_tiers`."""
        (rows,) = encode_tiers([self], hidden_states, target_ids, head=head, sequence_ids=sequence_ids, lengths=lengths)
        return rows

    @abstractmethod
    def measured(self, chunk: TokenChunk) -> tuple[Tensor, ...]:
        """What will be written about the chunk's tokens; one row a token in each tensor."""

    @abstractmethod
    def written(self, *measured: Tensor) -> EncodedRows:
        """The rows of what was measured, all chunks end to end, on the CPU."""

    @abstractmethod
    def token_log_probs(
        self, rows: EncodedRows, target_ids: Int[Tensor, " tokens"], *, head: OutputHead | None
    ) -> Float[Tensor, " tokens"]:
        """Log-prob of each target in nats, float32.

        Args:
            rows: one tier's.
            target_ids: one for each token of `rows`.
            head: the teacher's, widened; read where `needs_head`.

        Raises:
            CacheError: the rows do not tell it.
        """

    def log_probs(self, rows: EncodedRows, *, head: OutputHead | None) -> Float[Tensor, "tokens vocab"]:
        """Whole distributions in nats, float32.

        Raises:
            CacheError: the codec stores none.
        """
        raise CacheError(
            f"codec {self.name} stores no whole distributions",
            why=f"it keeps {self.summary}",
            fix="distill cache RECIPE cache.codec=exact",
        )

    def check(self, rows: EncodedRows) -> str | None:
        """What is wrong with the rows, whoever wrote them; None: nothing."""
        records, counts = rows.records, rows.entry_counts
        if records.dtype != torch.uint8:
            return f"records are {records.dtype}, not bytes"
        if self.row_bytes is None:
            if counts is None or counts.dtype != torch.uint8 or counts.dim() != 1 or records.dim() != 1:
                return "rows that vary come with one count of entries a token"
        elif counts is not None or records.dim() != 2 or records.shape[1] != self.row_bytes:
            return f"records have shape {list(records.shape)}, not [tokens, {self.row_bytes}]"
        return self._check_numbers(rows)

    @abstractmethod
    def _check_numbers(self, rows: EncodedRows) -> str | None:
        """What is wrong with the values of rows whose shape is right."""


@torch.no_grad()
def encode_tiers(
    codecs: Sequence[Codec],
    hidden_states: Float[Tensor, "tokens hidden"],
    target_ids: Int[Tensor, " tokens"],
    *,
    head: OutputHead,
    sequence_ids: Sequence[str],
    lengths: Sequence[int],
    max_logits: int = MAX_LOGITS,
) -> list[EncodedRows]:
    """Encodes tokens for several tiers at once; one head product serves all of them, none is made where none is needed.

    A sequence gets the same bytes alone or beside others, up to the float32 noise of the product: what `sampled`
    draws depends on its seed and the sequence's id only.

    Args:
        codecs: the tiers' codecs.
        hidden_states: states after the last norm, sequence after sequence, on the model's device.
        target_ids: the token that followed each.
        head: the teacher's, widened.
        sequence_ids: the sequences', in order.
        lengths: tokens of each sequence; together all of them.
        max_logits: how many logits are held at once, unless one row has more.

    Returns:
        The rows of each codec, on the CPU.
    """
    num_tokens = len(hidden_states)
    assert sum(lengths) == num_tokens == len(target_ids) > 0
    needs_logits = any(codec.needs_logits for codec in codecs)
    rows = num_tokens
    if needs_logits:
        # Products of like size: a small last one would read the whole head for a few rows.
        num_products = -(-num_tokens // max(1, max_logits // head.weight.shape[0]))
        rows = -(-num_tokens // num_products)
    piece = rows
    if needs_logits and hidden_states.device.type == "cpu":
        piece = min(rows, max(1, PIECE_LOGITS // head.weight.shape[0]))
    measured: list[list[tuple[Tensor, ...]]] = [[] for _ in codecs]
    for start in range(0, num_tokens, rows):
        stop = min(start + rows, num_tokens)
        logits = head.logits(hidden_states[start:stop]) if needs_logits else None
        for first in range(start, stop, piece):
            last = min(first + piece, stop)
            chunk = TokenChunk(
                hidden_states[first:last],
                target_ids[first:last],
                logits=None if logits is None else logits[first - start : last - start],
                parts=_parts(sequence_ids, lengths, start=first, stop=last),
            )
            for codec, own in zip(codecs, measured, strict=True):
                own.append(codec.measured(chunk))
    columns = [
        [torch.cat(pieces) if len(pieces) > 1 else pieces[0] for pieces in zip(*own, strict=True)] for own in measured
    ]
    return [codec.written(*own) for codec, own in zip(codecs, columns, strict=True)]


def _parts(sequence_ids: Sequence[str], lengths: Sequence[int], *, start: int, stop: int) -> list[SequencePart]:
    """What of each sequence lies between two tokens of the whole."""
    parts = []
    for sequence_id, length, end in zip(sequence_ids, lengths, accumulate(lengths), strict=True):
        first = end - length
        own_start, own_stop = max(start, first), min(stop, end)
        if own_start < own_stop:
            parts.append(SequencePart(sequence_id, length, own_start - first, own_stop - first))
    return parts
