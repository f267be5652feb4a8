"""How far a teacher cache is from the teacher it was made from, measured on the teacher itself.

`python -m eval.cache_fidelity CACHE TEACHER PAIRS.jsonl` prints one JSON line. The reference is the teacher's
final-norm output of the batch through its head in float32 (bias, scale and soft-cap applied). Beside it stands what
rounding the logits themselves to bfloat16 would cost.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from distill.data import TokenizedSequence, read_pairs, tokenize_pair
from distill.models import LoadedModel, load_model, output_head
from distill.numerics import log_softmax, token_log_probs
from distill.objectives.output_head import OutputHead
from distill.settings import Settings
from distill.teacher_cache import TeacherCache
from distill.teacher_cache.codecs import CodecName
from distill.teacher_cache.head_file import float_head
from distill.teacher_cache.reader import SCORE_CODECS
from eval.distortion import Distortion, distortion
from eval.scored_tokens import scored_tokens
from eval.stored_distributions import stored_log_probs


class TierFidelity(Settings):
    """How far one tier is from the teacher; means and largest values over tokens, KLs in nats.

    A figure is None where the tier does not tell it: `scores` holds no distributions, lists and draws no log-prob of
    every token; a KL is None where it is infinite, for `sampled` stores tokens that were not drawn as impossible.
    """

    codec: CodecName
    bytes_per_token: float
    kl_nats: float | None
    max_kl_nats: float | None
    total_variation: float | None
    top_1_agreement: float | None
    max_score_difference_nats: float | None


class CacheFidelity(Settings):
    """Every tier of a cache on the same sequences, beside what rounding the logits to bfloat16 would cost."""

    num_sequences: int
    num_tokens: int
    kl_of_rounded_logits_nats: float
    tiers: tuple[TierFidelity, ...]


@torch.inference_mode()
def cache_fidelity(cache: TeacherCache, teacher: LoadedModel, sequences: Sequence[TokenizedSequence]) -> CacheFidelity:
    """Compares every tier of the cache with the teacher on `sequences`.

    Raises:
        CacheError: the cache lacks a sequence.
    """
    cache.require_sequences([sequence.sequence_id for sequence in sequences])
    tokens, head = scored_tokens(teacher, sequences), float_head(output_head(teacher.model))
    meters = [_Meter(cache, codec) for codec in cache.tiers]
    rounded: list[Tensor] = []
    parts = zip(
        tokens.sequence_ids,
        torch.split(tokens.hidden_states, list(tokens.lengths)),
        torch.split(tokens.target_ids, list(tokens.lengths)),
        strict=True,
    )
    for sequence_id, hidden_states, target_ids in parts:
        logits = head.logits(hidden_states).cpu()
        rounded.append(distortion(logits, logits.bfloat16()).kl_nats)
        for meter in meters:
            meter.add(sequence_id, logits, target_ids.cpu())
    return CacheFidelity(
        num_sequences=len(sequences),
        num_tokens=len(tokens.target_ids),
        kl_of_rounded_logits_nats=torch.cat(rounded).mean().item(),
        tiers=tuple(meter.fidelity() for meter in meters),
    )


class _Meter:
    """Gathers the distances of one tier, sequence by sequence."""

    def __init__(self, cache: TeacherCache, codec: CodecName) -> None:
        self._cache, self._name, self._codec = cache, codec, cache.codec(codec)
        self._head: OutputHead | None = float_head(cache.head) if self._codec.needs_head else None
        self._parts: list[Distortion] = []
        self._score_differences: list[Tensor] = []

    def add(self, sequence_id: str, logits: Tensor, target_ids: Tensor) -> None:
        """Compares one sequence's rows with the teacher's logits."""
        rows = self._cache.records(self._name, [sequence_id])
        if self._name in SCORE_CODECS:
            found = self._codec.token_log_probs(rows, target_ids, head=self._head)
            self._score_differences.append((found - token_log_probs(logits, target_ids)).abs())
        stored = stored_log_probs(self._codec, rows, head=self._head)
        if stored is not None:
            self._parts.append(distortion(log_softmax(logits), stored))

    def fidelity(self) -> TierFidelity:
        """The figures over all that was added."""
        shards = self._cache.manifest.complete_tiers[self._name].shards
        kl = self._joined("kl_nats")
        is_finite = kl is not None and bool(kl.isfinite().all())
        variation, is_equal = self._joined("total_variation"), self._joined("is_top_1_equal")
        differences = torch.cat(self._score_differences) if self._score_differences else None
        return TierFidelity(
            codec=self._name,
            bytes_per_token=sum(shard.size_bytes for shard in shards) / self._cache.manifest.num_tokens,
            kl_nats=kl.mean().item() if kl is not None and is_finite else None,
            max_kl_nats=kl.max().item() if kl is not None and is_finite else None,
            total_variation=None if variation is None else variation.mean().item(),
            top_1_agreement=None if is_equal is None else is_equal.double().mean().item(),
            max_score_difference_nats=None if differences is None else differences.max().item(),
        )

    def _joined(self, name: str) -> Tensor | None:
        return torch.cat([getattr(part, name) for part in self._parts]) if self._parts else None


def main() -> None:
    """Prints the figures of a cache."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("teacher")
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--max-sequences", type=int, default=1000)
    arguments = parser.parse_args()
    cache, teacher = TeacherCache.open(arguments.cache), load_model(arguments.teacher)
    length = cache.manifest.max_length_tokens
    pairs = [tokenize_pair(teacher.tokenizer, row, max_length_tokens=length) for row in read_pairs(arguments.pairs)]
    sequences = {s.sequence_id: s for pair in pairs if pair is not None for s in (pair.chosen, pair.rejected)}
    measured = cache_fidelity(cache, teacher, list(sequences.values())[: arguments.max_sequences])
    print(json.dumps(measured.model_dump(mode="json")))  # noqa: T201 - a command


if __name__ == "__main__":
    main()
