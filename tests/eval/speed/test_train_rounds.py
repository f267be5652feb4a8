import math

import pytest

from distill.errors import DistillError
from eval.speed.processes import Block, Measured
from eval.speed.train_rounds import WARM_UP, Clocking, amounts_of_blocks, largest_difference
from eval.speed.train_work import WORKS


def warmed_up(*losses: float) -> Measured:
    return Measured(0, Block(losses, 1.0, 1.0, 1, 1))


def test_losses_that_agree_give_the_largest_difference_before_any_update():
    measured = {"a": warmed_up(0.5, 0.25), "b": warmed_up(0.5, 0.125)}
    expected = {"a": [0.500004, 0.24991], "b": [0.500001]}
    assert largest_difference(measured, expected=expected) == pytest.approx(4e-6)


@pytest.mark.parametrize(
    ("found", "wanted", "step"),
    [
        ([0.5], [0.50002], 1),
        ([math.nan], [0.5], 1),
        ([0.001], [0.001002], 1),
        ([0.5, 0.6], [0.5, 0.60011], 2),
    ],
)
def test_another_loss_is_refused(found, wanted, step):
    """2e-5 off; not a number; 2e-6 off, which is more than a thousandth of 0.001002; 1.1e-4 after an update."""
    with pytest.raises(DistillError, match=rf"the loss of a at step {step} is .* is expected"):
        largest_difference({"a": warmed_up(*found)}, expected={"a": wanted})


def test_blocks_are_counted_from_after_the_warm_up():
    """Every pair of tiny answers has 24 tokens: a step of two pairs has 48 and two prompts."""
    work, clocking = WORKS["tiny"], Clocking(num_steps=2, num_repeats=3, num_threads=1)
    tokens, flops = amounts_of_blocks(work, clocking)
    pairs = work.in_order(num_steps=clocking.num_steps_in_all)[2 * WARM_UP :]
    assert len(tokens) == len(flops) == 3
    assert sum(tokens) == sum(24 + len(pair.chosen.prompt_ids) for pair in pairs)
    assert min(flops) > 0
