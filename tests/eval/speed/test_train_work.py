from dataclasses import replace

import pytest

from eval.speed.train_work import END_ID, FIRST_WORD_ID, WORKS, sequences

TINY = WORKS["tiny"]


@pytest.mark.parametrize("name", ["32k", "tiny"])
def test_pairs_have_the_lengths_asked_for_and_one_sum(name):
    work = WORKS[name]
    for pair in work.pairs():
        lengths = [len(answer.completion_ids) for answer in (pair.chosen, pair.rejected)]
        assert work.prompt_tokens[0] <= len(pair.chosen.prompt_ids) <= work.prompt_tokens[1]
        assert work.answer_tokens[0] <= min(lengths) <= max(lengths) <= work.answer_tokens[1]
        assert sum(lengths) == sum(work.answer_tokens)
        assert pair.chosen.prompt_ids == pair.rejected.prompt_ids


def test_answers_end_in_the_end_token_and_hold_it_nowhere_else():
    for sequence in sequences(TINY.pairs()):
        assert sequence.completion_ids[-1] == END_ID
        assert min((*sequence.prompt_ids, *sequence.completion_ids[:-1])) >= FIRST_WORD_ID


def test_equal_seeds_give_equal_pairs_and_others_do_not():
    assert TINY.pairs() == TINY.pairs()
    assert TINY.pairs() != replace(TINY, seed=1).pairs()


def test_every_epoch_holds_every_pair_once():
    """8 pairs, 2 a step: 4 steps an epoch."""
    order = [pair.id for pair in TINY.in_order(num_steps=8)]
    assert sorted(order[:8]) == sorted(order[8:]) == sorted(pair.id for pair in TINY.pairs())


def test_the_work_is_told_in_words():
    assert "vocabulary 32,000" in WORKS["32k"].described()
    assert "64 pairs" in WORKS["32k"].described()
