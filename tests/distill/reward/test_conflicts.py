"""Which pairs the filter keeps."""

import torch

from distill.reward.conflicts import kept_answers, ranked_as_labelled


def test_only_a_strictly_higher_chosen_reward_is_kept():
    kept = ranked_as_labelled(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 2.0]))
    assert kept.tolist() == [False, False, True]


def test_both_answers_of_a_kept_pair_stay_with_their_states():
    """Pairs (1 against 2) and (5 against 4): the second stays, its answers at places 1 and 3."""
    states = torch.arange(4.0).unsqueeze(1)
    found, rewards = kept_answers(states, torch.tensor([1.0, 5.0, 2.0, 4.0]))
    assert found.flatten().tolist() == [1.0, 3.0]
    assert rewards.tolist() == [5.0, 4.0]
