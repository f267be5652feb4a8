import torch

from distill.objectives.chunk_terms import ForwardKlTerm, ListedTerm, num_terms


def test_a_term_with_a_shorter_way_is_one():
    lists = torch.zeros(1, 1, dtype=torch.int64)
    assert num_terms(ListedTerm(lambda log_probs, tokens: log_probs[:, 0], lists, lists == 0)) == 1
    assert num_terms(ForwardKlTerm(lambda tokens: torch.zeros(1, 2))) == 1
    assert num_terms(()) == 0
    assert num_terms((lambda log_probs, tokens: log_probs[:, 0],) * 2) == 2
