import dataclasses

import pytest
import torch
from jaxtyping import TypeCheckError

from distill.objectives import PairLoss, PairTerms, TokenTerms, TopKRows, moved_rows, part_of_rows, selected_rows


def test_terms_cannot_be_changed():
    terms = PairTerms(torch.zeros(2), torch.zeros(2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        terms.policy_chosen_log_probs = torch.ones(2)


def test_terms_that_an_objective_does_not_read_may_be_absent():
    terms = PairTerms(torch.zeros(2), torch.zeros(2))
    assert terms.reference_chosen_log_probs is None
    assert terms.teacher_rejected_log_probs is None
    assert terms.num_chosen_tokens is None


def test_terms_of_one_batch_have_one_length():
    with pytest.raises(TypeCheckError, match="reference_chosen_log_probs"):
        PairTerms(torch.zeros(2), torch.zeros(2), torch.zeros(3))


def test_token_terms_stand_token_by_token():
    distributions, pair_index = torch.zeros(3, 5), torch.zeros(3, dtype=torch.int64)
    assert TokenTerms(distributions, distributions, pair_index, torch.ones(3, dtype=torch.bool))
    with pytest.raises(TypeCheckError, match="is_chosen"):
        TokenTerms(distributions, distributions, pair_index, torch.ones(2, dtype=torch.bool))


def test_a_loss_and_its_quantities_have_one_value_per_pair():
    assert PairLoss(torch.zeros(2), {"margin": torch.zeros(2)})
    with pytest.raises(TypeCheckError, match="quantities"):
        PairLoss(torch.zeros(2), {"margin": torch.zeros(2, 3)})


def test_parts_of_rows_are_views_of_all_their_tensors():
    told = torch.tensor([True, False, True])
    rows = TopKRows(torch.arange(6).view(3, 2), torch.arange(6.0).view(3, 2), torch.arange(3.0), told, vocab_size=9)
    part = part_of_rows(rows, 1, 3)
    assert torch.equal(part.token_ids, torch.tensor([[2, 3], [4, 5]]))
    assert part.log_probs.data_ptr() == rows.log_probs[1:].data_ptr()
    assert part.is_told.tolist() == [False, True]
    assert part.vocab_size == 9
    assert selected_rows(rows, torch.tensor([2])).tail_mass.tolist() == [2.0]


def test_rows_move_with_all_their_tensors():
    rows = TopKRows(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2), torch.zeros(1), vocab_size=9)
    moved = moved_rows(rows, torch.device("meta"))
    assert {moved.token_ids.device.type, moved.log_probs.device.type, moved.tail_mass.device.type} == {"meta"}
    assert moved.is_told is None


def test_rows_of_one_batch_have_one_length():
    with pytest.raises(TypeCheckError, match="tail_mass"):
        TopKRows(torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2), torch.zeros(3))
