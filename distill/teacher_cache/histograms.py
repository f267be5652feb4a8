"""How sure the teacher is, and how much more than the reference it prefers the chosen answers: as histograms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import TokenizedPair
from distill.errors import CacheError
from distill.files import read_jsonl, write_jsonl
from distill.teacher_cache.reader import DISTRIBUTION_CODECS, TeacherCache

# Impossible tokens stand at -inf, and 0 times -inf is nan.
_LEAST_LOG_PROB = -1e30
# Values nearer to each other than this, for their size, are one value: bins between them would have no width.
_LEAST_SPREAD = 1e-12
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Histogram:
    """Counts of values between edges, with what they come to."""

    num_values: int
    mean: float
    quantiles: dict[str, float]
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def to_json(self) -> dict[str, object]:
        """The same as plain values."""
        return {
            "num_values": self.num_values,
            "mean": self.mean,
            "quantiles": dict(self.quantiles),
            "edges": list(self.edges),
            "counts": list(self.counts),
        }


def histogram(values: Float[Tensor, " values"], *, num_bins: int = 20) -> Histogram:
    """Bins of equal width from the least to the greatest value; there is at least one value."""
    assert len(values) > 0
    array = values.double().numpy()
    least, most = float(array.min()), float(array.max())
    if most - least < _LEAST_SPREAD * max(1.0, abs(least), abs(most)):
        least, most = least - 0.5, most + 0.5
    counts, edges = np.histogram(array, bins=num_bins, range=(least, most))
    found = np.quantile(array, _QUANTILES)
    quantiles = {f"{share:.0%}": float(value) for share, value in zip(_QUANTILES, found, strict=True)}
    return Histogram(len(array), float(array.mean()), quantiles, tuple(edges.tolist()), tuple(counts.tolist()))


def histograms(
    folder: Path, *, reference: Path | None = None, pair_ids: Path | None = None, max_tokens: int = 4096
) -> dict[str, Histogram]:
    """What a cache's numbers look like.

    Args:
        folder: the teacher's cache.
        reference: the cache of the reference policy over the same pairs.
        pair_ids: which sequences are a pair, as `write_pair_ids` wrote it.
        max_tokens: of how many completion tokens, spread evenly over the cache, the entropy is taken.

    Returns:
        `entropy_nats` of the distributions, where a tier holds them; `delta_te_nats`, one value a pair, where
        reference and pairs are given.

    Raises:
        CacheError: a cache cannot be read, lacks sequences of the pairs, or only one of reference and pairs is given.
        DataError: the file of pairs cannot be read.
    """
    if (reference is None) != (pair_ids is None):
        raise CacheError(
            f"delta_te of {folder} needs the reference's cache and the file of pairs, and only one is given",
            why="it is log(teacher / reference) of the chosen answer less that of the rejected one",
            fix="give both, or neither",
        )
    cache, found = TeacherCache.open(folder), dict[str, Histogram]()
    if any(codec in cache.tiers for codec in DISTRIBUTION_CODECS):
        found["entropy_nats"] = histogram(_entropies(cache, max_tokens=max_tokens))
    if reference is not None and pair_ids is not None:
        found["delta_te_nats"] = histogram(delta_te(cache, TeacherCache.open(reference), read_pair_ids(pair_ids)))
    return found


def delta_te(
    teacher: TeacherCache, reference: TeacherCache, pairs: Sequence[tuple[str, str]]
) -> Float[Tensor, " pairs"]:
    r"""How much more than the reference the teacher prefers the chosen answer of each pair, in nats.

    .. math:: \Delta_{te} = \log\frac{\pi_{te}(y_w)}{\pi_{ref}(y_w)} - \log\frac{\pi_{te}(y_l)}{\pi_{ref}(y_l)}

    Args:
        teacher: the teacher's cache.
        reference: that of the reference policy.
        pairs: sequence ids of the chosen and the rejected answer.

    Raises:
        CacheError: a cache lacks a sequence, or has no log-probs of tokens.

    Source:
        Zhang et al. 2025, arXiv:2506.15717, sec. 4.2.
    """
    ids = [sequence_id for pair in pairs for sequence_id in pair]
    ratios = teacher.sequence_log_probs(ids) - reference.sequence_log_probs(ids)
    return ratios[0::2] - ratios[1::2]


def write_pair_ids(path: Path, pairs: Iterable[TokenizedPair]) -> int:
    """Writes which two sequences make each pair, whole or not at all; returns how many pairs."""
    return write_jsonl(
        path,
        ({"id": pair.id, "chosen": pair.chosen.sequence_id, "rejected": pair.rejected.sequence_id} for pair in pairs),
    )


def read_pair_ids(path: Path) -> list[tuple[str, str]]:
    """Reads sequence ids of chosen and rejected answers.

    Raises:
        DataError: the file is missing or not JSON lines.
        CacheError: a row lacks the ids (names the line), or there is none.
    """
    pairs = []
    for number, row in read_jsonl(path):
        chosen, rejected = row.get("chosen"), row.get("rejected")
        if not isinstance(chosen, str) or not isinstance(rejected, str):
            raise CacheError(
                f"{path}:{number} does not name two sequences",
                why="a row holds the sequence ids of a pair as chosen and rejected",
                fix="give the file that stands beside the caches of a run",
            )
        pairs.append((chosen, rejected))
    if not pairs:
        raise CacheError(f"{path} names no pairs", fix="give the file that stands beside the caches of a run")
    return pairs


@torch.inference_mode()
def _entropies(cache: TeacherCache, *, max_tokens: int) -> Float[Tensor, " tokens"]:
    """At `max_tokens` tokens or a few more, of sequences spread evenly over the cache."""
    step = max(1, cache.manifest.num_tokens // max_tokens)
    values: list[Tensor] = []
    for log_probs in cache.log_probs_in_blocks(cache.sequence_ids[::step]):
        values.append(-(log_probs.exp() * log_probs.clamp_min(_LEAST_LOG_PROB)).sum(-1))
        if sum(map(len, values)) >= max_tokens:
            break
    return torch.cat(values)
