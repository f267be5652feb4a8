import pytest
import torch

from distill.data import CHAT_TEMPLATE
from distill.errors import RecipeError
from distill.models import LoadedModel, ScratchSettings, new_model, train_tokenizer
from distill.models.world import World
from distill.training.cached_scores import CachedScores, cached_scores
from distill.training.live_teacher import LiveTeacher, held_out_scores
from tests.distill.training.examples import Scored, new_student, settings, tokenizer

ALONE = World(0, 1, 0)
GKD = {"name": "gkd", "on_policy_share": 1.0}


def scores_of(scored: Scored, share: float) -> CachedScores:
    return cached_scores(
        scored.pairs,
        settings(objective=GKD | {"on_policy_share": share}),
        teacher_cache=scored.teacher,
        reference_cache=None,
        student_vocab_size=scored.teacher.manifest.vocab_size,
        tokenizer=tokenizer(),
        has_live_teacher=True,
    )


@pytest.mark.parametrize("max_tokens", [8192, 20, 1])
def test_a_live_teacher_says_what_its_cache_holds(scored: Scored, max_tokens: int):
    sequences = [sequence for pair in scored.pairs for sequence in (pair.rejected, pair.chosen)]
    rows = LiveTeacher(new_student(1), max_tokens=max_tokens, world=ALONE).rows(sequences)
    expected = scored.teacher.hidden_states([sequence.sequence_id for sequence in sequences])
    torch.testing.assert_close(rows.hidden_states, expected, rtol=1e-4, atol=1e-5)
    assert not rows.hidden_states.requires_grad
    assert not rows.hidden_states.is_inference()


def test_its_head_is_the_caches(scored: Scored):
    live = LiveTeacher(new_student(1), max_tokens=64, world=ALONE)
    assert scored.teacher.head is not None
    torch.testing.assert_close(live.head.weight, scored.teacher.head.weight, rtol=0, atol=0)


def test_held_out_answers_are_read_by_the_teacher_where_no_cache_is(scored: Scored):
    live = LiveTeacher(new_student(1), max_tokens=64, world=ALONE)
    cached, uncached = scores_of(scored, 0.5), scores_of(scored, 1.0)
    ids = [scored.pairs[2].chosen.sequence_id, scored.pairs[0].rejected.sequence_id]
    assert uncached.rows(ids) is None
    assert held_out_scores(cached, scored.pairs, live=live) is cached
    assert held_out_scores(uncached, scored.pairs, live=None) is uncached
    found, expected = held_out_scores(uncached, scored.pairs, live=live).rows(ids), cached.rows(ids)
    torch.testing.assert_close(found.hidden_states, expected.hidden_states, rtol=1e-4, atol=1e-5)  # type: ignore[union-attr]


def padded_to(vocab_size: int) -> LoadedModel:
    student = new_student()
    student.model.resize_token_embeddings(vocab_size)
    return student


def test_ids_that_both_know_end_before_any_padding():
    known = 1 + max(tokenizer().get_vocab().values())
    live = LiveTeacher(new_student(1), max_tokens=64, world=ALONE)
    assert live.num_shared_token_ids(new_student()) == known
    assert live.num_shared_token_ids(padded_to(known + 9)) == known


def test_a_teacher_of_another_tokenizer_is_refused():
    other = train_tokenizer(["quite other words"] * 3, vocab_size=275, chat_template=CHAT_TEMPLATE)
    shape = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_length_tokens=64)
    live = LiveTeacher(
        LoadedModel(new_model(shape, other, seed=0), other, "other", "other"), max_tokens=64, world=ALONE
    )
    with pytest.raises(RecipeError, match="the live teacher's tokenizer is not the student's: "):
        live.num_shared_token_ids(new_student())
