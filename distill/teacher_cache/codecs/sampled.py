"""Codec `sampled`: tokens drawn from the teacher's distribution, with how often each came up."""

import functools
import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.codec import Codec, SequencePart, TokenChunk
from distill.teacher_cache.codecs.rows import ENTRY_BYTES, EncodedRows
from distill.teacher_cache.codecs.tier import CodecName, HeadShape, TierSettings

ID_BITS = 18
BLOCK = 64  # tokens whose weights are summed before the distribution function is made


@dataclass(frozen=True)
class Samples:
    """Draws of several positions end to end; position i has entries row_offsets[i] to row_offsets[i + 1].

    counts / num_samples is an unbiased estimate of the teacher's distribution, zero for tokens not drawn.
    """

    token_ids: Int[Tensor, " entries"]
    counts: Int[Tensor, " entries"]
    row_offsets: Int[Tensor, " offsets"]
    num_samples: int


class SampledCodec(Codec):
    """An entry for each distinct token drawn, ids climbing: 18 bits of id, 6 of count; a byte counts the entries.

    Source:
        Anshumann et al. 2025, arXiv:2503.16870, sec. 3 (proposal temperature 1).
    """

    name: ClassVar[CodecName] = "sampled"
    needs_logits = True
    needs_head = False
    has_distributions = False
    summary = "tokens drawn from the teacher's distribution, with their counts"

    def __init__(self, settings: TierSettings, shape: HeadShape) -> None:
        super().__init__(settings, shape)
        if shape.vocab_size > 2**ID_BITS:
            raise CacheError(
                f"the teacher's vocabulary is {shape.vocab_size}",
                why=f"codec sampled writes ids of {ID_BITS} bits, up to {2**ID_BITS}",
                fix="distill cache RECIPE cache.codec=exact",
            )

    @property
    def row_bytes(self) -> None:
        """Rows vary."""
        return

    def bytes_per_token(self) -> float:
        """Upper bound, all draws distinct; a teacher of 2 nats takes about a quarter of it."""
        return float(ENTRY_BYTES * self.settings.num_samples + 1)

    def measured(self, chunk: TokenChunk) -> tuple[Tensor, ...]:
        """Draws by inverting the distribution function at places that seed and sequence id fix."""
        places = torch.cat([self._places(part)[part.start : part.stop] for part in chunk.parts])
        places = places.to(chunk.weights.device)
        return (draw(chunk.weights, places),)

    def written(self, *measured: Tensor) -> EncodedRows:
        """Runs of equal tokens become entries."""
        drawn = measured[0].cpu()
        is_first = torch.ones_like(drawn, dtype=torch.bool)
        is_first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
        starts = is_first.flatten().nonzero()[:, 0]
        counts = torch.diff(starts, append=starts.new_tensor([drawn.numel()]))
        entries = (drawn.flatten()[starts] | counts << ID_BITS).int()
        records = entries.unsqueeze(-1).view(torch.uint8)[:, :ENTRY_BYTES].flatten()
        return EncodedRows(records, is_first.sum(-1).to(torch.uint8))

    def decode(self, rows: EncodedRows) -> Samples:
        """Ids and counts in int64."""
        assert rows.entry_counts is not None
        entries = _entries(rows)
        offsets = torch.nn.functional.pad(rows.entry_counts.long().cumsum(0), (1, 0))
        return Samples(entries & (2**ID_BITS - 1), entries >> ID_BITS, offsets, self.settings.num_samples)

    def token_log_probs(
        self, rows: EncodedRows, target_ids: Int[Tensor, " tokens"], *, head: OutputHead | None = None
    ) -> Float[Tensor, " tokens"]:
        """Cannot be had: the log of an unbiased estimate is biased, and infinite where a token was not drawn.

        Raises:
            CacheError: always.
        """
        raise CacheError(
            "codec sampled stores no log-probs",
            why="the logarithm of a count is no estimate of the log-prob",
            fix="distill cache RECIPE cache.codec=[sampled,scores]",
        )

    def _check_numbers(self, rows: EncodedRows) -> str | None:
        assert rows.entry_counts is not None
        if len(rows.records) != ENTRY_BYTES * int(rows.entry_counts.sum(dtype=torch.int64)):
            return f"{len(rows.records)} bytes are not what the counts of entries promise"
        samples = self.decode(rows)
        row = torch.repeat_interleave(rows.entry_counts.long())
        totals = torch.zeros(rows.num_tokens, dtype=torch.int64).index_add(0, row, samples.counts)
        if bool((totals != self.settings.num_samples).any()):
            wrong = int((totals != self.settings.num_samples).nonzero()[0])
            return f"the counts of token {wrong} sum to {int(totals[wrong])}, not {self.settings.num_samples}"
        climbs = (torch.diff(samples.token_ids) > 0) | (torch.diff(row) > 0)
        problems = {
            "names a token outside the vocabulary": samples.token_ids >= self.shape.vocab_size,
            "has a count of zero": samples.counts == 0,
            "has ids that do not climb": torch.nn.functional.pad(~climbs, (1, 0)),
        }
        for problem, is_wrong in problems.items():
            if bool(is_wrong.any()):
                return f"token {int(row[is_wrong][0])} {problem}"
        return None

    def _places(self, part: SequencePart) -> Float[Tensor, "tokens samples"]:
        name = f"{self.settings.seed}:{part.sequence_id}"
        return places_of(name, part.length, self.settings.num_samples)


# A sequence is often cut into many chunks, which follow each other.
@functools.lru_cache(maxsize=1)
def places_of(name: str, num_tokens: int, num_samples: int) -> Float[Tensor, "tokens samples"]:
    """Where in [0, 1) the distribution functions of a sequence are inverted, climbing; fixed by its name."""
    digest = hashlib.sha256(name.encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little"))
    return torch.rand(num_tokens, num_samples, dtype=torch.float64, generator=generator).sort(-1).values


def draw(
    weights: Float[Tensor, "tokens vocab"], places: Float[Tensor, "tokens samples"]
) -> Int[Tensor, "tokens samples"]:
    """The inverse of each row's distribution function: token v is drawn where a place lies in v's share of [0, 1).

    In two steps, the block of tokens first, then the token in it, so that only sums of blocks are added up over the
    vocabulary. In float64: in float32 a step of the function near 1 is 6e-8, and rarer tokens would be missed.

    Args:
        weights: not negative, not all zero; need not sum to one.
        places: float64 in [0, 1), climbing; then so do the tokens.
    """
    vocab_size = weights.shape[1]
    whole = vocab_size - vocab_size % BLOCK
    sums = weights[:, :whole].view(len(weights), -1, BLOCK).sum(-1)
    sums = torch.cat([sums, weights[:, whole:].sum(-1, keepdim=True)], dim=1).double()
    block, inside = _inverted(sums, places)
    members = block.unsqueeze(-1) * BLOCK + torch.arange(BLOCK, device=weights.device)
    own = weights.gather(1, members.clamp_max(vocab_size - 1).flatten(1)).view_as(members).double()
    own = own.masked_fill(members >= vocab_size, 0.0)
    within, _ = _inverted(own, inside.unsqueeze(-1))
    return block * BLOCK + within[..., 0]


def _inverted(
    weights: Float[Tensor, "*rows columns"], places: Float[Tensor, "*rows samples"]
) -> tuple[Int[Tensor, "*rows samples"], Float[Tensor, "*rows samples"]]:
    """The column in whose share of [0, 1) each place lies, never one of weight zero; and where in that share."""
    function = weights.cumsum(-1)
    targets = places * function[..., -1:]
    column = torch.searchsorted(function, targets, right=True).clamp_max(weights.shape[-1] - 1)
    share = weights.gather(-1, column)
    inside = (targets - (function.gather(-1, column) - share)) / share
    return column, inside.clamp(0.0, 1.0 - 2.0**-53)


def _entries(rows: EncodedRows) -> Int[Tensor, " entries"]:
    columns = rows.records.view(-1, ENTRY_BYTES).long()
    return columns[:, 0] | columns[:, 1] << 8 | columns[:, 2] << 16
