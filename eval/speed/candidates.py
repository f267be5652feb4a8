"""Ways to store the teacher's distributions: every codec with several settings, and what others store."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.numerics import log_softmax
from distill.objectives.output_head import OutputHead
from distill.teacher_cache.codecs import HeadShape, TierSettings, make_codec
from eval.scored_tokens import ScoredTokens
from eval.speed.distillkit import CONFIGURATIONS, DistillKit
from eval.stored_distributions import stored_log_probs

NESTED_ENTRY_BYTES = 8  # int32 id and float32 value

TIERS: dict[str, TierSettings] = {
    "`exact`": TierSettings(codec="exact"),
    **{f"`exact-int8`, groups of {n}": TierSettings(codec="exact-int8", group_size=n) for n in (8, 16)},
    "`logits-bf16`": TierSettings(codec="logits-bf16"),
    **{f"`sampled`, N={n}": TierSettings(codec="sampled", num_samples=n) for n in (12, 25, 50)},
}
LISTED = (16, 64)


@dataclass(frozen=True)
class Block:
    """Some whole sequences with the teacher's distributions and a student's, computed once for all that is measured."""

    tokens: ScoredTokens
    head: OutputHead
    log_probs: Float[Tensor, "tokens vocab"]
    student_hidden_states: Float[Tensor, "tokens hidden"]
    student_log_probs: Float[Tensor, "tokens vocab"]


Stored = tuple[int, Float[Tensor, "tokens vocab"]]


@dataclass(frozen=True)
class Candidate:
    """One way to store a block: bytes, and the distributions that come back."""

    name: str
    origin: str
    store: Callable[[Block], Stored]


def candidates_for(peer: DistillKit | None, *, shape: HeadShape) -> list[Candidate]:
    """Every codec with its settings, then what others store; `top-k` also at the sizes of the peer's lists."""
    sizes = [] if peer is None else [peer.bytes_per_token(name, vocab_size=shape.vocab_size) for name in CONFIGURATIONS]
    listed = sorted({*LISTED, *(longest_list(size, shape=shape) for size in sizes)})
    tiers = TIERS | {f"`top-k`, k={k}": TierSettings(codec="top-k", k=k) for k in listed}
    found = [Candidate(name, "ours", _tier(settings, shape)) for name, settings in tiers.items()]
    found.append(Candidate("raw logits in bfloat16", "peer", _raw_logits))
    found += [Candidate(f"list of {k}, renormalised (int32 + float32)", "peer", _renormalised(k)) for k in (64, 128)]
    if peer is not None:
        found += [Candidate(f"DistillKit, {name}", "peer", _distillkit(peer, name)) for name in CONFIGURATIONS]
    return found


def longest_list(size_bytes: int, *, shape: HeadShape) -> int:
    """The most tokens that `top-k` lists in `size_bytes` a token, at least one."""

    def taken(k: int) -> int:
        row_bytes = make_codec(TierSettings(codec="top-k", k=k), shape).row_bytes
        assert row_bytes is not None
        return row_bytes

    return max((k for k in range(1, min(size_bytes, shape.vocab_size) + 1) if taken(k) <= size_bytes), default=1)


def _tier(settings: TierSettings, shape: HeadShape) -> Callable[[Block], Stored]:
    codec = make_codec(settings, shape)

    def store(block: Block) -> Stored:
        tokens = block.tokens
        rows = codec.encode(
            tokens.hidden_states,
            tokens.target_ids,
            head=block.head,
            sequence_ids=tokens.sequence_ids,
            lengths=tokens.lengths,
        )
        log_probs = stored_log_probs(codec, rows, head=block.head)
        assert log_probs is not None, "scores are no distributions"
        return rows.size_bytes, log_probs

    return store


def _raw_logits(block: Block) -> Stored:
    logits = block.head.logits(block.tokens.hidden_states).bfloat16()
    return logits.nbytes, log_softmax(logits)


def _renormalised(k: int) -> Callable[[Block], Stored]:
    def store(block: Block) -> Stored:
        values, token_ids = block.log_probs.topk(k)
        listed = torch.full_like(block.log_probs, -torch.inf).scatter(1, token_ids, values)
        return NESTED_ENTRY_BYTES * values.numel(), log_softmax(listed)

    return store


def _distillkit(peer: DistillKit, name: str) -> Callable[[Block], Stored]:
    return lambda block: peer.compressed(name, block.log_probs)
