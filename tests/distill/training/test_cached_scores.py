from pathlib import Path

import pytest
import torch

from distill.data import CHAT_TEMPLATE, TokenizedPair, TokenizedSequence
from distill.errors import CacheError, RecipeError
from distill.models import train_tokenizer
from distill.training.cached_scores import CachedScores, cached_scores
from tests.distill.training.examples import Scored, scored_pairs, settings, tokenizer

KD = {"name": "kd"}
DADPO = {"name": "dadpo"}


def looked_up(scored: Scored, objective: dict[str, object], **changes: object) -> CachedScores:
    arguments = {
        "teacher_cache": scored.teacher,
        "reference_cache": scored.reference,
        "student_vocab_size": scored.teacher.manifest.vocab_size,
        "tokenizer": tokenizer(),
    } | changes
    return cached_scores(scored.pairs, settings(objective=objective), **arguments)  # type: ignore[arg-type]


def test_scores_are_the_sums_of_the_cached_token_log_probs(scored: Scored):
    scores = looked_up(scored, DADPO)
    ids = [scored.pairs[3].chosen.sequence_id, scored.pairs[0].rejected.sequence_id]
    reference, teacher = scores.reference(ids), scores.teacher(ids)
    assert reference is not None
    assert teacher is not None
    for row, sequence_id in enumerate(ids):
        torch.testing.assert_close(reference[row], scored.reference[sequence_id].token_log_probs().sum())
        torch.testing.assert_close(teacher[row], scored.teacher[sequence_id].token_log_probs().sum())
    assert scores.hidden_states(ids) is None


def test_an_objective_gets_only_what_it_reads(scored: Scored):
    ids = [scored.pairs[0].chosen.sequence_id]
    dpo, kd = looked_up(scored, {"name": "dpo"}, teacher_cache=None), looked_up(scored, KD, reference_cache=None)
    assert dpo.teacher(ids) is None
    assert dpo.reference(ids) is not None
    assert kd.reference(ids) is None
    assert kd.teacher(ids) is None
    hidden_states = kd.hidden_states(ids)
    assert hidden_states is not None
    assert len(hidden_states) == len(scored.pairs[0].chosen.completion_ids)


def test_a_cache_that_is_not_given_is_named(scored: Scored):
    with pytest.raises(RecipeError, match="objective dadpo needs the cache of the reference"):
        looked_up(scored, DADPO, reference_cache=None)
    with pytest.raises(RecipeError, match="objective kd needs the cache of the teacher"):
        looked_up(scored, KD, teacher_cache=None)


def test_pairs_that_were_not_scored_are_refused(scored: Scored):
    sequence = TokenizedSequence((1,), (2,))
    strange = Scored([TokenizedPair("new", sequence, sequence)], scored.teacher, scored.reference)
    with pytest.raises(CacheError, match="1 of 1 sequences are not in teacher cache"):
        looked_up(strange, DADPO)


def test_another_vocabulary_is_refused(scored: Scored):
    for changes in ({"student_vocab_size": 99}, {"student_vocab_size": 999, "tokenizer": None}):
        with pytest.raises(CacheError, match=r"the teacher has \d+ logits a token, the student 999?"):
            looked_up(scored, KD, **changes)
    looked_up(scored, DADPO, student_vocab_size=99)


def test_a_head_that_is_padded_further_is_welcome_if_the_tokenizer_is_the_same(scored: Scored):
    looked_up(scored, KD, student_vocab_size=999)
    other = train_tokenizer(["quite other words"] * 3, vocab_size=270, chat_template=CHAT_TEMPLATE)
    with pytest.raises(CacheError, match="tokenizer_fingerprint is .* is asked for"):
        looked_up(scored, KD, student_vocab_size=999, tokenizer=other)


def test_a_cache_without_distributions_is_refused(tmp_path: Path):
    scored = scored_pairs(tmp_path, count=2, codec="scores")
    with pytest.raises(CacheError, match="objective kd needs tier exact or exact-int8 .* which has scores") as caught:
        looked_up(scored, KD)
    assert caught.value.fix == "distill cache RECIPE cache.codec=[scores,exact]"
    looked_up(scored, DADPO)
