from pathlib import Path

import pytest
import torch

from distill.errors import CacheError
from distill.numerics import log_softmax
from distill.objectives import HiddenStateRows, LogitRows, SampledRows, TierName, TopKRows
from distill.teacher_cache import CacheSettings, TeacherCache, score_sequences
from distill.training.teacher_rows import laid_on_tokens, teacher_rows
from tests.distill.training.examples import new_student, pairs

SEQUENCES = [sequence for pair in pairs(4) for sequence in (pair.chosen, pair.rejected)]
IDS = [sequence.sequence_id for sequence in SEQUENCES][:3]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> TeacherCache:
    codecs = [{"codec": "exact", "hidden_dtype": "float32"}, "exact-int8", "logits-bf16", {"codec": "top-k", "k": 5}]
    choice = CacheSettings.model_validate({"codec": [*codecs, "sampled"], "max_length_tokens": 64})
    folder: Path = tmp_path_factory.mktemp("rows")
    return score_sequences(new_student(1), SEQUENCES, settings=choice, output_dir=folder, data_fingerprint="pairs")


def test_hidden_states_make_the_teachers_distributions(cache: TeacherCache):
    rows = teacher_rows(cache, "exact", IDS)
    assert isinstance(rows, HiddenStateRows)
    torch.testing.assert_close(log_softmax(cache.head.logits(rows.hidden_states)), cache.log_probs(IDS))


def test_the_named_tier_is_read_and_not_a_better_one(cache: TeacherCache):
    exact, rounded = teacher_rows(cache, "exact", IDS), teacher_rows(cache, "exact-int8", IDS)
    assert isinstance(exact, HiddenStateRows)
    assert isinstance(rounded, HiddenStateRows)
    assert not torch.equal(rounded.hidden_states, exact.hidden_states)
    torch.testing.assert_close(rounded.hidden_states, exact.hidden_states, rtol=0, atol=0.05)


def test_logits_come_as_they_are_stored(cache: TeacherCache):
    rows = teacher_rows(cache, "logits-bf16", IDS)
    assert isinstance(rows, LogitRows)
    assert rows.logits.dtype == torch.bfloat16
    torch.testing.assert_close(log_softmax(rows.logits), cache.log_probs(IDS), rtol=0, atol=0.05)


def test_lists_and_draws_come_with_the_width_of_the_teachers_head(cache: TeacherCache):
    lists, draws = teacher_rows(cache, "top-k", IDS), teacher_rows(cache, "sampled", IDS)
    assert isinstance(lists, TopKRows)
    assert isinstance(draws, SampledRows)
    assert lists.vocab_size == draws.vocab_size == cache.manifest.vocab_size
    assert torch.equal(lists.token_ids, cache.top_k(IDS).token_ids)
    assert torch.equal(lists.tail_mass, cache.top_k(IDS).tail_mass)


def test_draws_side_by_side_are_those_of_each_token(cache: TeacherCache):
    rows, samples = teacher_rows(cache, "sampled", IDS), cache.samples(IDS)
    assert isinstance(rows, SampledRows)
    assert (rows.counts.sum(-1) == samples.num_samples).all()
    for token, (start, stop) in enumerate(zip(samples.row_offsets[:-1], samples.row_offsets[1:], strict=True)):
        is_entry = rows.counts[token] > 0
        assert torch.equal(rows.token_ids[token][is_entry], samples.token_ids[start:stop])
        assert torch.equal(rows.counts[token][is_entry], samples.counts[start:stop])


@pytest.mark.parametrize("tier", ["exact", "exact-int8", "logits-bf16", "top-k", "sampled"])
def test_every_tier_has_a_row_for_every_token(cache: TeacherCache, tier: TierName):
    rows = teacher_rows(cache, tier, IDS)
    first = next(value for value in vars(rows).values() if isinstance(value, torch.Tensor))
    assert len(first) == sum(len(sequence.completion_ids) for sequence in SEQUENCES[:3])
    assert rows.is_told is None


def test_a_sequence_that_was_not_scored_is_refused(cache: TeacherCache):
    with pytest.raises(CacheError, match="1 of 1 sequences are not in teacher cache"):
        teacher_rows(cache, "top-k", ["unknown"])


def test_rows_are_laid_on_the_students_tokens_by_position():
    """Teacher: answers of 2 and 3 tokens; student: of 3 and 2. Its third token of the first is told nothing."""
    rows = LogitRows(torch.arange(5.0).unsqueeze(-1))
    laid = laid_on_tokens(rows, teacher_lengths=torch.tensor([2, 3]), student_lengths=torch.tensor([3, 2]))
    assert isinstance(laid, LogitRows)
    assert laid.is_told is not None
    assert laid.is_told.tolist() == [True, True, False, True, True]
    assert laid.logits[laid.is_told, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_rows_of_one_tokenizer_lie_as_they_were():
    rows, lengths = LogitRows(torch.arange(5.0).unsqueeze(-1)), torch.tensor([2, 3])
    laid = laid_on_tokens(rows, teacher_lengths=lengths, student_lengths=lengths)
    assert isinstance(laid, LogitRows)
    assert torch.equal(laid.logits, rows.logits)
    assert laid.is_told is not None
    assert laid.is_told.all()
