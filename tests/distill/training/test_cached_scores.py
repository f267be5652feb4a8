import tempfile
from pathlib import Path

import pytest
import torch

from distill.data import CHAT_TEMPLATE, TokenizedPair, TokenizedSequence
from distill.errors import CacheError, RecipeError
from distill.models import train_tokenizer
from distill.objectives import HiddenStateRows
from distill.teacher_cache import CacheSettings, score_sequences
from distill.training.cached_scores import CachedScores, cached_scores
from tests.distill.training.examples import Scored, new_student, pairs, scored_pairs, settings, tokenizer

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


def tiers(folder: Path, *codecs: object) -> Scored:
    """Four pairs, scored by a teacher in these tiers and by the reference."""
    examples = pairs(4)
    sequences = [sequence for pair in examples for sequence in (pair.chosen, pair.rejected)]
    both = []
    for name, chosen in (("teacher", ["scores", *codecs]), ("reference", ["scores"])):
        choice = CacheSettings.model_validate({"codec": chosen, "max_length_tokens": 64})
        made = score_sequences(
            new_student(1), sequences, settings=choice, output_dir=folder / name, data_fingerprint="pairs"
        )
        both.append(made)
    return Scored(examples, *both)


def test_the_first_tier_that_would_do_is_read_unless_the_recipe_names_another(tmp_path: Path):
    scored = tiers(tmp_path, {"codec": "top-k", "k": 8}, "sampled", "logits-bf16")
    read = {
        tier: looked_up(scored, KD | changes).tier
        for tier, changes in {
            "best": {},
            "named": {"tier": "sampled"},
            "reverse": {"divergence": "reverse_kl"},
        }.items()
    }
    assert read == {"best": "logits-bf16", "named": "sampled", "reverse": "logits-bf16"}
    token_term = {"name": "dadpo", "token_divergence": {"name": "reverse_kl", "weight": 1, "tier": "top-k"}}
    assert looked_up(scored, token_term).tier == "top-k"
    assert looked_up(scored, DADPO).tier is None
    assert looked_up(scored, KD).head is None
    with pytest.raises(CacheError, match="objective kd needs tier exact of teacher cache") as caught:
        looked_up(scored, KD | {"tier": "exact"})
    assert caught.value.fix == "distill cache RECIPE cache.codec=[scores,top-k,sampled,logits-bf16,exact]"


def test_a_tier_that_cannot_tell_the_divergence_will_not_do(tmp_path: Path):
    scored = tiers(tmp_path, "sampled")
    with pytest.raises(
        CacheError, match="objective kd needs tier exact or logits-bf16 or exact-int8 or top-k of"
    ) as caught:
        looked_up(scored, KD | {"divergence": "reverse_kl"})
    assert caught.value.fix == "distill cache RECIPE cache.codec=[scores,sampled,exact]"


def test_answers_that_the_student_draws_need_a_live_teacher(scored: Scored):
    gkd = {"name": "gkd", "on_policy_share": 0.5}
    with pytest.raises(RecipeError, match="objective gkd needs a live teacher, and none is at hand") as caught:
        looked_up(scored, gkd)
    assert "on_policy_share=0" in str(caught.value)
    assert looked_up(scored, gkd, has_live_teacher=True).tier == "exact"
    assert looked_up(scored, gkd | {"on_policy_share": 0.0}).tier == "exact"


def of_another_tokenizer(scored: Scored) -> tuple[list[TokenizedPair], Scored]:
    """The student's pairs, whose sequences no cache knows, and what the teacher knows as its own tokens."""
    own = [
        TokenizedPair(pair.id, *(TokenizedSequence((1,), (7, 8, 9, number)) for number in (2 * place, 2 * place + 1)))
        for place, pair in enumerate(scored.pairs)
    ]
    return own, scored


def test_a_teacher_of_another_tokenizer_is_asked_for_its_own_tokens(scored: Scored):
    own, teachers = of_another_tokenizer(scored)
    settings_of = {"dadpo": DADPO, "uld": KD | {"divergence": "uld"}}
    arguments = {
        "teacher_cache": scored.teacher,
        "reference_cache": None,
        "student_vocab_size": 99,
        "teacher_pairs": teachers.pairs,
    }
    uld = cached_scores(own, settings(objective=settings_of["uld"]), **arguments)  # type: ignore[arg-type]
    ids = [own[0].chosen.sequence_id, own[0].rejected.sequence_id]
    theirs = [scored.pairs[0].chosen, scored.pairs[0].rejected]
    lengths, rows = uld.teacher_lengths(ids), uld.rows(ids)
    assert lengths is not None
    assert lengths.tolist() == [len(sequence.completion_ids) for sequence in theirs]
    assert isinstance(rows, HiddenStateRows)
    assert rows.is_told is not None
    assert rows.is_told.tolist() == [position < length for length in lengths.tolist() for position in range(4)]
    first = scored.teacher.hidden_states([theirs[0].sequence_id])
    torch.testing.assert_close(rows.hidden_states[: min(4, len(first))], first[:4])


def test_sums_over_answers_need_no_common_tokens(scored: Scored):
    own, teachers = of_another_tokenizer(scored)
    sequences = [sequence for pair in own for sequence in (pair.chosen, pair.rejected)]
    choice = CacheSettings.model_validate({"codec": "scores", "max_length_tokens": 64})
    with tempfile.TemporaryDirectory() as folder:
        reference = score_sequences(
            new_student(0), sequences, settings=choice, output_dir=Path(folder) / "r", data_fingerprint="pairs"
        )
        scores = cached_scores(
            own,
            settings(objective=DADPO),
            teacher_cache=scored.teacher,
            reference_cache=reference,
            student_vocab_size=99,
            teacher_pairs=teachers.pairs,
        )
    found = scores.teacher([own[2].rejected.sequence_id])
    expected = scored.teacher[scored.pairs[2].rejected.sequence_id].token_log_probs().sum()
    assert found is not None
    torch.testing.assert_close(found[0], expected)


def test_token_ids_of_two_tokenizers_are_not_compared(scored: Scored):
    with pytest.raises(RecipeError, match="objective kd compares teacher and student token by token"):
        looked_up(scored, KD, teacher_pairs=scored.pairs)
    with pytest.raises(RecipeError, match="the 16 pairs of the student's tokenizer are not the 15 of the teacher's"):
        looked_up(scored, DADPO, teacher_pairs=scored.pairs[1:])


def test_a_cache_without_distributions_is_refused(tmp_path: Path):
    scored = scored_pairs(tmp_path, count=2, codec="scores")
    with pytest.raises(CacheError, match="objective kd needs tier exact or .* which has scores") as caught:
        looked_up(scored, KD)
    assert caught.value.fix == "distill cache RECIPE cache.codec=[scores,exact]"
    looked_up(scored, DADPO)
