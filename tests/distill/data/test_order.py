import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.order import epoch_order, rank_share, step_indices, steps_per_epoch
from distill.errors import DataError

sizes, seeds = st.integers(1, 40), st.integers(0, 5)


@given(sizes, seeds, st.integers(0, 3))
def test_an_epoch_shows_every_example_once(num_examples, seed, epoch):
    assert sorted(epoch_order(num_examples, seed=seed, epoch=epoch)) == list(range(num_examples))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(epoch_order(50, seed=seed, epoch=epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


@given(sizes, seeds, sizes, st.integers(0, 30))
def test_a_step_is_the_same_whenever_it_is_asked_for(num_examples, seed, batch, step):
    first = step_indices(num_examples, seed=seed, global_batch_size=batch, step=step)
    assert first == step_indices(num_examples, seed=seed, global_batch_size=batch, step=step)


@given(sizes, seeds, sizes)
def test_steps_of_an_epoch_follow_its_order(num_examples, seed, batch):
    steps = steps_per_epoch(num_examples, global_batch_size=batch)
    for epoch in (0, 1):
        shown = [
            index
            for step in range(epoch * steps, (epoch + 1) * steps)
            for index in step_indices(num_examples, seed=seed, global_batch_size=batch, step=step)
        ]
        assert shown == epoch_order(num_examples, seed=seed, epoch=epoch)[: len(shown)]
        assert len(shown) > num_examples - batch


def test_the_remainder_of_an_epoch_is_left_out():
    """7 examples, batches of 3: two steps an epoch, each of 3; the third step begins epoch 1."""
    assert steps_per_epoch(7, global_batch_size=3) == 2
    assert step_indices(7, seed=0, global_batch_size=3, step=2) == epoch_order(7, seed=0, epoch=1)[:3]


def test_fewer_examples_than_a_batch_make_one_step_of_all():
    assert steps_per_epoch(2, global_batch_size=8) == 1
    assert sorted(step_indices(2, seed=0, global_batch_size=8, step=5)) == [0, 1]


def test_no_examples_are_refused():
    with pytest.raises(DataError, match="there are no examples to train on"):
        steps_per_epoch(0, global_batch_size=8)


@given(st.lists(st.integers()), st.integers(1, 5))
def test_shares_of_all_ranks_are_the_whole_and_differ_by_one_at_most(indices, world_size):
    shares = [rank_share(indices, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(index for share in shares for index in share) == sorted(indices)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
