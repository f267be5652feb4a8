import math
import random

import pytest

from distill.data import TokenizedPair, TokenizedSequence
from distill.errors import RecipeError
from distill.training.held_out import HeldOutLosses, held_out_parts, split_pairs
from tests.distill.training.examples import dialogues, pairs, settings


def losses(*values: float) -> HeldOutLosses:
    held = HeldOutLosses()
    for number, value in enumerate(values, start=1):
        held = held.after(10 * number, value)
    return held


def test_the_best_is_the_lowest_and_the_first_of_equal_ones():
    assert losses().best_step is None
    assert losses(3.0, 1.0, 2.0, 1.0).best_step == 20
    assert losses(math.nan, 5.0).best_step == 20


def test_patience_counts_losses_that_are_no_lower_by_the_least_improvement():
    """With 0.5: 3, 2.6 (no), 2.5 (no: 0.5 is not more than 0.5), 2.4 (yes), 2.4 (no)."""
    counts = [
        losses(*[3.0, 2.6, 2.5, 2.4, 2.4][:number]).num_without_improvement(min_improvement=0.5)
        for number in range(1, 6)
    ]
    assert counts == [0, 1, 2, 0, 1]


def test_losses_that_are_not_finite_are_no_improvement():
    assert losses(math.nan, math.inf).num_without_improvement(min_improvement=0.0) == 2
    assert losses(math.nan, 4.0).num_without_improvement(min_improvement=0.0) == 0


def test_a_run_stops_when_patience_is_used_up_and_never_without_any():
    chosen = settings(stop_after=2, evaluate_every_steps=1)
    assert not losses(1.0, 2.0).is_time_to_stop(chosen)
    assert losses(1.0, 2.0, 1.5).is_time_to_stop(chosen)
    assert not losses(1.0, 2.0, 1.5).is_time_to_stop(settings())


def test_a_record_keeps_them_to_the_bit():
    held = losses(0.1 + 0.2, math.nan)
    assert held.to_json() == [[10, 0.30000000000000004], [20, None]]
    assert HeldOutLosses.from_json(held.to_json()) == held
    with pytest.raises(ValueError, match="held_out is no list"):
        HeldOutLosses.from_json([[1, 2, 3]])


def test_pairs_are_held_out_whatever_their_order():
    chosen, examples = settings(objective={"name": "dpo"}, num_valid_pairs=4), pairs(20)
    train, held = split_pairs(examples, chosen)
    assert len(held) >= 4
    assert sorted(pair.id for pair in [*train, *held]) == sorted(pair.id for pair in examples)
    shuffled = random.Random(1).sample(examples, len(examples))
    assert {pair.id for pair in split_pairs(shuffled, chosen)[1]} == {pair.id for pair in held}


def test_pairs_of_one_prompt_stand_on_one_side():
    """Ten prompts with three pairs each; four pairs are asked for: two prompts, six pairs."""
    examples = [
        TokenizedPair(
            f"{prompt}-{number}", TokenizedSequence((prompt,), (7, number)), TokenizedSequence((prompt,), (8,))
        )
        for prompt in range(10)
        for number in range(3)
    ]
    train, held = split_pairs(examples, settings(objective={"name": "dpo"}, num_valid_pairs=4))
    assert len(held) == 6
    assert not {pair.chosen.prompt_ids for pair in held} & {pair.chosen.prompt_ids for pair in train}


def test_some_pairs_are_left_to_train_on():
    with pytest.raises(RecipeError, match="num_valid_pairs is 9, and there are 5 pairs"):
        split_pairs(pairs(5), settings(objective={"name": "dpo"}, num_valid_pairs=9))


def test_held_out_examples_come_from_one_place():
    chosen = settings(objective={"name": "dpo"}, num_valid_pairs=2)
    with pytest.raises(RecipeError, match="num_valid_pairs is 2, and 3 held-out examples are given"):
        held_out_parts(pairs(9), pairs(3, seed=1), chosen)
    train, held = held_out_parts(pairs(9), (), chosen)
    assert (len(train) + len(held), bool(held)) == (9, True)


def test_nothing_is_compared_without_held_out_examples():
    chosen = settings(keep_best=True, stop_after=1, evaluate_every_steps=1)
    with pytest.raises(RecipeError, match="keep_best and stop_after are set, and there are no held-out examples"):
        held_out_parts(dialogues(4), (), chosen)
    assert held_out_parts(dialogues(4), (), settings())[1] == ()
