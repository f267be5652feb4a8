"""Whether the teacher's rows lie at the tokens that they speak of: two tiers of its cache have to say the same."""

import logging
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from distill.data import TokenizedPair
from distill.errors import CacheError
from distill.numerics import log_softmax, token_log_probs
from distill.objectives import HiddenStateRows, LogitRows, OutputHead, TeacherRows, TopKRows, moved_rows, selected_rows
from distill.teacher_cache import SCORE_CODECS
from distill.training.feed import Feed
from distill.training.teacher_rows import teacher_rows

log = logging.getLogger(__name__)

NUM_PAIRS = 4
MAX_TOKENS = 256
"""Of all sequences that are read again: a head product of so many tokens takes well under a second at any size."""
TOLERANCE = {"exact": 0.05, "exact-int8": 0.1, "logits-bf16": 0.05, "top-k": 0.05}
"""Nats by which the tiers round a log-prob at most, but for a few tokens; misplaced rows are nats apart."""
RELATIVE_TOLERANCE = 2**-7
"""Of the log-prob's own size: what bfloat16 rounds it by, twice."""
MAX_SHARE = 0.25
MIN_TOKENS = 2


@dataclass(frozen=True)
class _Sample:
    """Rows as the trainer reads them, with the tokens it reads them for, end to end; ids are the teacher's."""

    example_ids: list[str]
    sequence_ids: list[str]
    rows: TeacherRows
    target_ids: Int[Tensor, " tokens"]


def require_aligned(feed: Feed, *, step: int, head: OutputHead | None) -> None:
    """Refuses a cache whose distributions do not give the trainer's tokens the log-probs that the teacher gave them.

    A few pairs of a batch are read as the trainer reads them; from their distributions follow log-probs of the tokens
    to be learned, which have to be those of the cache's tier `scores`. A cache with one tier has nothing to be held
    against, nor have draws (`sampled`) or what `top-k` says of tokens that it does not list.

    Args:
        feed: of the training pairs.
        step: of whose batch, counted from 0; all ranks read the same of it.
        head: the teacher's, widened; for hidden states.

    Raises:
        CacheError: rows and scores speak of different tokens; names the pair, the sequence and the first token.
    """
    scores = feed.scores
    if scores is None or scores.distributions is None or scores.tier not in TOLERANCE:
        return
    cache, tier = scores.distributions, scores.tier
    source = next((codec for codec in SCORE_CODECS if codec in cache.tiers), tier)
    if source == tier:
        log.info("teacher cache %s has tier %s alone: nothing to hold its rows against", cache.folder, tier)
        return
    sample = _sample(feed, step)
    lengths = cache.lengths(sample.sequence_ids)
    cached = cache.token_log_probs(sample.sequence_ids)
    if len(cached) != len(sample.target_ids):
        _refuse(sample, 0, f"{len(cached)} scores for {len(sample.target_ids)} tokens", cache_folder=str(cache.folder))
    sequence = torch.repeat_interleave(lengths)
    place = torch.arange(len(sequence)) - (lengths.cumsum(0) - lengths)[sequence]
    kept = (place < max(MIN_TOKENS, MAX_TOKENS // len(lengths))).nonzero()[:, 0]
    found = target_log_probs(selected_rows(sample.rows, kept), sample.target_ids[kept], head=head)
    cached, sequence, place = cached[kept], sequence[kept], place[kept]
    is_off = (found - cached).abs() > TOLERANCE[tier] + RELATIVE_TOLERANCE * cached.abs()
    worst = _misplaced(is_off, found.isfinite(), sequence, num_sequences=len(lengths))
    if worst is None:
        return
    first = int((is_off & (sequence == worst)).nonzero()[0])
    num_off = int((is_off & (sequence == worst)).sum())
    _refuse(
        sample,
        worst,
        f"at token {int(place[first])} tier {tier} gives {float(found[first]):.3f} and tier {source} "
        f"{float(cached[first]):.3f} nats; so at {num_off} of {int((sequence == worst).sum())} tokens",
        cache_folder=str(cache.folder),
    )


def target_log_probs(
    rows: TeacherRows, target_ids: Int[Tensor, " tokens"], *, head: OutputHead | None
) -> Float[Tensor, " tokens"]:
    """The teacher's log-prob of each target in nats; nan where the rows do not tell it."""
    if isinstance(rows, HiddenStateRows):
        assert head is not None, "hidden states come with the head that reads them"
        device = head.weight.device
        moved = moved_rows(rows, device)
        return token_log_probs(head.logits(moved.hidden_states), target_ids.to(device)).cpu()
    if isinstance(rows, LogitRows):
        return log_softmax(rows.logits).gather(-1, target_ids.unsqueeze(-1)).squeeze(-1)
    unknown = torch.full((len(target_ids),), torch.nan)
    if not isinstance(rows, TopKRows):
        return unknown
    is_target = rows.token_ids == target_ids.unsqueeze(-1)
    listed = torch.where(is_target, rows.log_probs.float(), 0.0).sum(-1)
    return torch.where(is_target.any(-1), listed, unknown)


def _sample(feed: Feed, step: int) -> _Sample:
    """A few pairs of the batch, evenly spaced, in the order in which the trainer lays them out."""
    scores = feed.scores
    assert scores is not None
    assert scores.distributions is not None
    assert scores.tier is not None
    indices = feed.indices(step)
    indices = [indices[len(indices) * number // NUM_PAIRS] for number in range(NUM_PAIRS)]
    indices = list(dict.fromkeys(indices))
    pairs = [pair for pair in (feed.examples[index] for index in indices) if isinstance(pair, TokenizedPair)]
    sequences = [sequence for pair in pairs for sequence in (pair.chosen, pair.rejected)]
    example_ids = [pair.id for pair in pairs for _ in range(2)]
    sequence_ids = [sequence.sequence_id for sequence in sequences]
    if scores.own_tokens is not None:
        sequence_ids = [scores.own_tokens.sequence_ids[i] for i in sequence_ids]
        rows = teacher_rows(scores.distributions, scores.tier, sequence_ids)
        return _Sample(example_ids, sequence_ids, rows, scores.distributions.completion_ids(sequence_ids).long())
    micro_batch = feed.pass_of(indices)
    assert micro_batch.teacher_rows is not None
    return _Sample(example_ids, sequence_ids, micro_batch.teacher_rows, micro_batch.target_ids)


def _misplaced(
    is_off: Bool[Tensor, " tokens"],
    is_known: Bool[Tensor, " tokens"],
    sequence: Int[Tensor, " tokens"],
    *,
    num_sequences: int,
) -> int | None:
    """The sequence with the largest share of tokens that are off, where that share says that rows are misplaced."""
    off = torch.bincount(sequence[is_off & is_known], minlength=num_sequences)
    known = torch.bincount(sequence[is_known], minlength=num_sequences)
    shares = torch.where(off >= MIN_TOKENS, off / known.clamp_min(1), 0.0)
    worst = int(shares.argmax())
    return worst if shares[worst] > MAX_SHARE else None


def _refuse(sample: _Sample, number: int, found: str, *, cache_folder: str) -> None:
    answer = ("chosen", "rejected")[number % 2]
    raise CacheError(
        f"teacher cache {cache_folder} is misaligned in the {answer} answer of pair {sample.example_ids[number]} "
        f"(sequence {sample.sequence_ids[number]}): {found}",
        why="the teacher's rows are not those of the tokens that they would teach, for example shifted by one",
        fix=f"delete {cache_folder} and make the cache again: distill cache RECIPE",
    )
