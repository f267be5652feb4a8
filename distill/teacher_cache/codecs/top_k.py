"""Codec `top-k`: the likeliest tokens with their true log-probs, and what all others weigh together."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.errors import CacheError
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs.bits import MAX_BITS, bits_for, pack, packed_size, unpack
from distill.teacher_cache.codecs.codec import Codec, TokenChunk
from distill.teacher_cache.codecs.rows import EncodedRows, as_bytes, as_values
from distill.teacher_cache.codecs.tier import CodecName, HeadShape, TierSettings

BLOCK = 32  # logits whose largest is compared first; the fastest on vocabularies of 32,000 and 151,936


@dataclass(frozen=True)
class TopK:
    """Lists of likeliest tokens, likeliest first; log-probs are the teacher's own, never made to sum to one."""

    token_ids: Int[Tensor, "tokens k"]
    log_probs: Float[Tensor, "tokens k"]
    tail_mass: Float[Tensor, " tokens"]
    log_normaliser: Float[Tensor, " tokens"]


class TopKCodec(Codec):
    """Packed ids, float16 log-probs, float32 logsumexp of the true logits, float32 mass of all other tokens."""

    name: ClassVar[CodecName] = "top-k"
    needs_logits = True
    needs_head = False
    has_distributions = False
    summary = "the k likeliest tokens, their log-probs, and the mass of all others"

    def __init__(self, settings: TierSettings, shape: HeadShape) -> None:
        super().__init__(settings, shape)
        self._bits = bits_for(shape.vocab_size)
        if self._bits > MAX_BITS:
            raise CacheError(
                f"the teacher's vocabulary is {shape.vocab_size}",
                why=f"codec top-k packs ids of at most {MAX_BITS} bits",
                fix="distill cache RECIPE cache.codec=exact",
            )
        if settings.k > shape.vocab_size:
            raise CacheError(
                f"k is {settings.k} and the teacher's vocabulary {shape.vocab_size}",
                why="codec top-k lists k distinct tokens",
                fix=f"set k to at most {shape.vocab_size}",
            )

    @property
    def row_bytes(self) -> int:
        """Ids of ceil(log2 V) bits, two bytes a log-prob, eight for the two sums."""
        return self._id_bytes + 2 * self.settings.k + 8

    def measured(self, chunk: TokenChunk) -> tuple[Tensor, ...]:
        """The tail is summed, not taken from one: exact where it is small."""
        logits, token_ids = top_k(chunk.logits, self.settings.k)
        tail = _sum_of_others(chunk.weights, token_ids) / chunk.totals
        return token_ids, chunk.log_probs_of(logits), tail.squeeze(-1), chunk.log_normalisers.squeeze(-1)

    def written(self, *measured: Tensor) -> EncodedRows:
        """Packed ids, log-probs, then the normaliser and the tail mass."""
        return self.rows_of(TopK(*measured))

    def rows_of(self, lists: TopK) -> EncodedRows:
        """Packs lists that are at hand; the opposite of `decode`."""
        log_probs = lists.log_probs.clamp(torch.finfo(torch.float16).min, 0).half()
        sums = torch.stack([lists.log_normaliser, lists.tail_mass], dim=1)
        fields = [pack(lists.token_ids, bits=self._bits), as_bytes(log_probs), as_bytes(sums.float())]
        return EncodedRows(torch.cat(fields, dim=1).cpu())

    def decode(self, rows: EncodedRows) -> TopK:
        """The lists in int64 and float32."""
        end = self._id_bytes + 2 * self.settings.k
        token_ids = unpack(rows.records[:, : self._id_bytes], bits=self._bits, count=self.settings.k)
        log_probs = as_values(rows.records[:, self._id_bytes : end], torch.float16).float()
        sums = as_values(rows.records[:, end:], torch.float32)
        return TopK(token_ids, log_probs, tail_mass=sums[:, 1], log_normaliser=sums[:, 0])

    def token_log_probs(
        self, rows: EncodedRows, target_ids: Int[Tensor, " tokens"], *, head: OutputHead | None = None
    ) -> Float[Tensor, " tokens"]:
        """Log-probs of targets that are all in their lists.

        Raises:
            CacheError: a target is not among the k likeliest; its own log-prob was not stored.
        """
        lists = self.decode(rows)
        found = lists.token_ids == target_ids.unsqueeze(-1)
        missing = (~found.any(-1)).nonzero()
        if len(missing):
            raise CacheError(
                f"token {int(missing[0])} of {len(target_ids)} is not among the {self.settings.k} likeliest",
                why=f"codec top-k does not know the log-prob of {len(missing)} of these tokens",
                fix="distill cache RECIPE cache.codec=[top-k,scores]",
            )
        return lists.log_probs.masked_fill(~found, 0.0).sum(-1)

    def _check_numbers(self, rows: EncodedRows) -> str | None:
        lists = self.decode(rows)
        ordered = lists.token_ids.sort(-1).values
        problems = {
            "names a token outside the vocabulary": (lists.token_ids >= self.shape.vocab_size).any(-1),
            "names a token twice": (ordered[:, 1:] == ordered[:, :-1]).any(-1),
            "has a log-prob that is no finite number at most 0": ~(
                lists.log_probs.isfinite() & (lists.log_probs <= 0)
            ).all(-1),
            "is not sorted by log-prob": (lists.log_probs[:, 1:] > lists.log_probs[:, :-1]).any(-1),
            "has a tail mass outside 0 to 1": ~((lists.tail_mass >= 0) & (lists.tail_mass <= 1)),
            "has a normaliser that is not finite": ~lists.log_normaliser.isfinite(),
        }
        for problem, wrong in problems.items():
            if bool(wrong.any()):
                return f"the list of token {int(wrong.nonzero()[0])} {problem}"
        return None

    @property
    def _id_bytes(self) -> int:
        return packed_size(self.settings.k, bits=self._bits)


def top_k(logits: Float[Tensor, "tokens vocab"], k: int) -> tuple[Float[Tensor, "tokens k"], Int[Tensor, "tokens k"]]:
    """The k largest of each row with their places, largest first.

    Block b holds the places b, b + W, b + 2 W, ... of the first BLOCK * W. The k largest numbers can be had from the
    k blocks with the largest maxima: where another block holds one of them, k maxima are at least as large. So one
    fast pass leaves k * BLOCK numbers to search, and the few after the last block.
    """
    num_blocks = logits.shape[1] // BLOCK
    if num_blocks <= 2 * k:
        values, places = logits.topk(k)
        return values, places
    maxima = logits[:, : BLOCK * num_blocks].view(-1, BLOCK, num_blocks).amax(1)
    chosen = maxima.topk(k, sorted=False).indices
    steps = torch.arange(0, BLOCK * num_blocks, num_blocks, device=logits.device)
    rest = torch.arange(BLOCK * num_blocks, logits.shape[1], device=logits.device).expand(len(logits), -1)
    candidates = torch.cat([(chosen.unsqueeze(-1) + steps).flatten(1), rest], dim=1)
    values, within = logits.gather(1, candidates).topk(k)
    return values, candidates.gather(1, within)


def _sum_of_others(
    weights: Float[Tensor, "tokens vocab"], token_ids: Int[Tensor, "tokens k"]
) -> Float[Tensor, "tokens 1"]:
    """Sum of the weights that are not listed; they are zeroed and put back, which spares a copy of all."""
    listed = weights.gather(-1, token_ids)
    others = weights.scatter_(-1, token_ids, 0.0).sum(-1, keepdim=True)
    weights.scatter_(-1, token_ids, listed)
    return others
