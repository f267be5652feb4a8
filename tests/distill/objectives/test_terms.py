import dataclasses

import pytest
import torch
from jaxtyping import TypeCheckError

from distill.objectives import PairLoss, PairTerms, TokenTerms


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
