"""What the caches say about the training pairs, looked up by sequence id and checked before the first step."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from distill.data import TokenizedPair
from distill.errors import CacheError, RecipeError
from distill.models import Tokenizer
from distill.objectives.table import OBJECTIVES
from distill.teacher_cache import HIDDEN_STATE_CODECS, SCORE_CODECS, TeacherCache, tokenizer_fingerprint
from distill.training.settings import TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedScores:
    """Sequence log-probs by sequence id, and the cache that holds distributions; absent where no objective asks."""

    reference_log_probs: dict[str, float] | None
    teacher_log_probs: dict[str, float] | None
    distributions: TeacherCache | None

    def reference(self, sequence_ids: Sequence[str]) -> Float[Tensor, " rows"] | None:
        """The reference policy's log-prob of each sequence, in nats."""
        return _looked_up(self.reference_log_probs, sequence_ids)

    def teacher(self, sequence_ids: Sequence[str]) -> Float[Tensor, " rows"] | None:
        """The teacher's log-prob of each sequence, in nats."""
        return _looked_up(self.teacher_log_probs, sequence_ids)

    def hidden_states(self, sequence_ids: Sequence[str]) -> Float[Tensor, "tokens hidden"] | None:
        """The teacher's final hidden states at the completion tokens of these sequences, end to end."""
        if self.distributions is None:
            return None
        return self.distributions.hidden_states(sequence_ids)


def cached_scores(
    pairs: Sequence[TokenizedPair],
    settings: TrainSettings,
    *,
    teacher_cache: TeacherCache | None,
    reference_cache: TeacherCache | None,
    student_vocab_size: int,
    tokenizer: "Tokenizer | None" = None,
) -> CachedScores:
    """Reads what the objective needs about the pairs.

    Args:
        pairs: the examples.
        settings: with the objective.
        teacher_cache: the teacher's scores.
        reference_cache: the reference policy's.
        student_vocab_size: rows of the student's head; padding may make it differ from the teacher's.
        tokenizer: the student's; without it, heads of different width are refused.

    Raises:
        RecipeError: the objective needs a cache that was not given.
        CacheError: a cache lacks sequences, a tier, or the student's vocabulary; names the command that adds a tier.
    """
    needs = OBJECTIVES[settings.objective.name]
    needs_distributions = needs.needs_distributions(settings.objective)
    reference = teacher = distributions = None
    if needs.needs_reference:
        reference = _required(reference_cache, "reference", settings)
    if needs.needs_teacher_scores or needs_distributions:
        teacher = _required(teacher_cache, "teacher", settings)
    sequences = [sequence.sequence_id for pair in pairs for sequence in (pair.chosen, pair.rejected)]
    for cache in (reference, teacher):
        if cache is not None:
            cache.require_sequences(sequences)
    if needs_distributions:
        assert teacher is not None
        _require_distributions(teacher, settings, student_vocab_size=student_vocab_size, tokenizer=tokenizer)
        distributions = teacher
    by = f"objective {settings.objective.name}"
    return CachedScores(
        reference_log_probs=_summed(reference, sequences, by),
        teacher_log_probs=_summed(teacher, sequences, by) if needs.needs_teacher_scores else None,
        distributions=distributions,
    )


def _required(cache: TeacherCache | None, name: str, settings: TrainSettings) -> TeacherCache:
    if cache is None:
        raise RecipeError(
            f"objective {settings.objective.name} needs the cache of the {name}, and none is given",
            why=f"its loss compares the student with the {name} on every pair",
            fix="make it with distill cache RECIPE",
        )
    return cache


def _require_distributions(
    cache: TeacherCache, settings: TrainSettings, *, student_vocab_size: int, tokenizer: "Tokenizer | None"
) -> None:
    cache.require_tier(*HIDDEN_STATE_CODECS, by=f"objective {settings.objective.name}")
    teacher_vocab_size = cache.manifest.vocab_size
    if teacher_vocab_size == student_vocab_size:
        return
    shared_size = min(teacher_vocab_size, student_vocab_size)
    if tokenizer is None or shared_size < len(tokenizer):
        raise CacheError(
            f"the teacher has {teacher_vocab_size} logits a token, the student {student_vocab_size}",
            why=f"objective {settings.objective.name} compares them token by token, and only padding beyond the "
            "tokens of one tokenizer may differ",
            fix="give the student the teacher's tokenizer and vocabulary size, or choose objective dpo or dadpo "
            "without token_divergence",
        )
    cache.require(tokenizer_fingerprint=tokenizer_fingerprint(tokenizer))
    log.info(
        "the teacher's head has %d rows, the student's %d: distributions are compared given the first %d",
        teacher_vocab_size,
        student_vocab_size,
        shared_size,
    )


def _summed(cache: TeacherCache | None, sequences: Sequence[str], by: str) -> dict[str, float] | None:
    if cache is None:
        return None
    cache.require_tier(*SCORE_CODECS, by=by)
    ids = list(dict.fromkeys(sequences))
    return dict(zip(ids, cache.sequence_log_probs(ids).tolist(), strict=True))


def _looked_up(log_probs: dict[str, float] | None, sequence_ids: Sequence[str]) -> Float[Tensor, " rows"] | None:
    return None if log_probs is None else torch.tensor([log_probs[i] for i in sequence_ids], dtype=torch.float32)
