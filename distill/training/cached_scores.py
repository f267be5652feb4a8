"""What the caches say about the training pairs, looked up by sequence id and checked before the first step."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data import TokenizedPair
from distill.errors import CacheError, RecipeError
from distill.models import Tokenizer
from distill.objectives import OBJECTIVES, HiddenStateRows, OutputHead, TeacherRows, TierName
from distill.teacher_cache import HIDDEN_STATE_CODECS, SCORE_CODECS, TeacherCache, tokenizer_fingerprint
from distill.training.settings import TrainSettings
from distill.training.teacher_rows import laid_on_tokens, teacher_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnTokens:
    """How the teacher's tokenizer cuts the student's sequences: ids and lengths, by the student's sequence id."""

    sequence_ids: Mapping[str, str]
    student_lengths: Mapping[str, int]
    teacher_lengths: Mapping[str, int]


@dataclass(frozen=True)
class CachedScores:
    """Sequence log-probs by sequence id, and the cache that holds distributions; absent where no objective asks.

    `tier` is the one that distributions are read from. `own_tokens` is there where the teacher's tokenizer is not the
    student's; ids that are asked for are the student's in any case.
    """

    reference_log_probs: dict[str, float] | None
    teacher_log_probs: dict[str, float] | None
    distributions: TeacherCache | None
    tier: TierName | None = None
    own_tokens: OwnTokens | None = None

    def reference(self, sequence_ids: Sequence[str]) -> Float[Tensor, " rows"] | None:
        """The reference policy's log-prob of each sequence, in nats."""
        return _looked_up(self.reference_log_probs, sequence_ids)

    def teacher(self, sequence_ids: Sequence[str]) -> Float[Tensor, " rows"] | None:
        """The teacher's log-prob of each sequence, in nats."""
        return _looked_up(self.teacher_log_probs, sequence_ids)

    def teacher_lengths(self, sequence_ids: Sequence[str]) -> Int[Tensor, " rows"] | None:
        """The teacher's tokens of each completion, where its tokenizer is not the student's."""
        own = self.own_tokens
        return None if own is None else torch.tensor([own.teacher_lengths[i] for i in sequence_ids])

    def rows(self, sequence_ids: Sequence[str]) -> TeacherRows | None:
        """What the teacher said at the student's completion tokens of these sequences, end to end."""
        if self.distributions is None or self.tier is None:
            return None
        if self.own_tokens is None:
            return teacher_rows(self.distributions, self.tier, sequence_ids)
        own = self.own_tokens
        found = teacher_rows(self.distributions, self.tier, [own.sequence_ids[i] for i in sequence_ids])
        return laid_on_tokens(
            found,
            teacher_lengths=torch.tensor([own.teacher_lengths[i] for i in sequence_ids]),
            student_lengths=torch.tensor([own.student_lengths[i] for i in sequence_ids]),
        )

    def hidden_states(self, sequence_ids: Sequence[str]) -> Float[Tensor, "tokens hidden"] | None:
        """The teacher's final hidden states at the completion tokens of these sequences, end to end."""
        rows = self.rows(sequence_ids)
        return rows.hidden_states if isinstance(rows, HiddenStateRows) else None

    @property
    def head(self) -> OutputHead | None:
        """The teacher's output head, where hidden states are read."""
        return self.distributions.head if self.distributions is not None and self.tier in HIDDEN_STATE_CODECS else None


def tier_to_read(cache: TeacherCache, settings: TrainSettings) -> TierName | None:
    """The tier that the objective learns distributions from: the first that would do and that the cache has."""
    needs = OBJECTIVES[settings.objective.name]
    if not needs.needs_distributions(settings.objective):
        return None
    return next((tier for tier in needs.distribution_tiers(settings.objective) if tier in cache.tiers), None)


def cached_scores(
    pairs: Sequence[TokenizedPair],
    settings: TrainSettings,
    *,
    teacher_cache: TeacherCache | None,
    reference_cache: TeacherCache | None,
    student_vocab_size: int,
    tokenizer: "Tokenizer | None" = None,
    teacher_pairs: Sequence[TokenizedPair] | None = None,
    has_live_teacher: bool = False,
) -> CachedScores:
    """Reads what the objective needs about the pairs.

    Args:
        pairs: the examples.
        settings: with the objective.
        teacher_cache: the teacher's scores.
        reference_cache: the reference policy's.
        student_vocab_size: rows of the student's head; padding may make it differ from the teacher's.
        tokenizer: the student's; without it, heads of different width are refused.
        teacher_pairs: the same pairs in the same order as the teacher's tokenizer cuts them, where that is another
            one; the teacher's cache is addressed by them.
        has_live_teacher: a teacher is at hand for answers that the student draws.

    Raises:
        RecipeError: the objective needs a cache or a live teacher that was not given, or the student's tokenizer.
        CacheError: a cache lacks sequences, a tier, or the student's vocabulary; names the command that adds a tier.
    """
    needs = OBJECTIVES[settings.objective.name]
    _require_live_teacher(settings, has_live_teacher=has_live_teacher)
    needs_distributions = needs.needs_distributions(settings.objective)
    own_tokens = None if teacher_pairs is None else _own_tokens(pairs, teacher_pairs, settings)
    reference = teacher = None
    if needs.needs_reference:
        reference = _required(reference_cache, "reference", settings)
    if needs.needs_teacher_scores or needs_distributions:
        teacher = _required(teacher_cache, "teacher", settings)
    sequences = [sequence.sequence_id for pair in pairs for sequence in (pair.chosen, pair.rejected)]
    names = {i: i for i in sequences} if own_tokens is None else own_tokens.sequence_ids
    if reference is not None:
        reference.require_sequences(sequences)
    if teacher is not None:
        teacher.require_sequences([names[i] for i in sequences])
    tier: TierName | None = None
    if needs_distributions:
        assert teacher is not None
        tier = _required_tier(teacher, settings)
        if needs.compares_token_ids(settings.objective):
            _require_vocabulary(teacher, settings, student_vocab_size=student_vocab_size, tokenizer=tokenizer)
    by = f"objective {settings.objective.name}"
    return CachedScores(
        reference_log_probs=_summed(reference, {i: i for i in sequences}, by),
        teacher_log_probs=_summed(teacher, names, by) if needs.needs_teacher_scores else None,
        distributions=teacher if needs_distributions else None,
        tier=tier,
        own_tokens=own_tokens,
    )


def _require_live_teacher(settings: TrainSettings, *, has_live_teacher: bool) -> None:
    name = settings.objective.name
    if OBJECTIVES[name].needs_live_teacher(settings.objective) and not has_live_teacher:
        raise RecipeError(
            f"objective {name} needs a live teacher, and none is at hand",
            why="a share of its steps learns from answers that the student draws, which no cache can hold",
            fix="train.objective.on_policy_share=0, which learns from the pairs' answers and the cache",
        )


def _own_tokens(
    pairs: Sequence[TokenizedPair], teacher_pairs: Sequence[TokenizedPair], settings: TrainSettings
) -> OwnTokens:
    name = settings.objective.name
    if OBJECTIVES[name].compares_token_ids(settings.objective):
        raise RecipeError(
            f"objective {name} compares teacher and student token by token, and their tokenizers differ",
            why="a token id means another text to each",
            fix="objective dadpo without token_divergence, or kd with divergence uld",
        )
    if [pair.id for pair in pairs] != [pair.id for pair in teacher_pairs]:
        raise RecipeError(
            f"the {len(pairs)} pairs of the student's tokenizer are not the {len(teacher_pairs)} of the teacher's",
            why="each answer is scored by both",
            fix="leave out the pairs of which either tokenizer leaves nothing",
        )
    both = [
        (own, other)
        for pair, teacher_pair in zip(pairs, teacher_pairs, strict=True)
        for own, other in ((pair.chosen, teacher_pair.chosen), (pair.rejected, teacher_pair.rejected))
    ]
    return OwnTokens(
        sequence_ids={own.sequence_id: other.sequence_id for own, other in both},
        student_lengths={own.sequence_id: len(own.completion_ids) for own, _ in both},
        teacher_lengths={own.sequence_id: len(other.completion_ids) for own, other in both},
    )


def _required(cache: TeacherCache | None, name: str, settings: TrainSettings) -> TeacherCache:
    if cache is None:
        raise RecipeError(
            f"objective {settings.objective.name} needs the cache of the {name}, and none is given",
            why=f"its loss compares the student with the {name} on every pair",
            fix="make it with distill cache RECIPE",
        )
    return cache


def _required_tier(cache: TeacherCache, settings: TrainSettings) -> TierName:
    tiers = OBJECTIVES[settings.objective.name].distribution_tiers(settings.objective)
    cache.require_tier(*tiers, by=f"objective {settings.objective.name}")
    return next(tier for tier in tiers if tier in cache.tiers)


def _require_vocabulary(
    cache: TeacherCache, settings: TrainSettings, *, student_vocab_size: int, tokenizer: "Tokenizer | None"
) -> None:
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


def _summed(cache: TeacherCache | None, names: Mapping[str, str], by: str) -> dict[str, float] | None:
    """Log-probs by the student's sequence id, of sequences that the cache knows by the names given."""
    if cache is None:
        return None
    cache.require_tier(*SCORE_CODECS, by=by)
    return dict(zip(names, cache.sequence_log_probs(list(names.values())).tolist(), strict=True))


def _looked_up(log_probs: dict[str, float] | None, sequence_ids: Sequence[str]) -> Float[Tensor, " rows"] | None:
    return None if log_probs is None else torch.tensor([log_probs[i] for i in sequence_ids], dtype=torch.float32)
