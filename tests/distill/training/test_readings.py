import math

import pytest
import torch

from distill.models.world import World
from distill.training.feed import Feed
from distill.training.readings import Readings, worst_first
from tests.distill.training.examples import dialogues, pairs, settings

ALONE = World(0, 1, 0)


def test_a_dialogues_loss_is_its_mean_over_tokens_in_whatever_runs_they_come():
    feed = Feed(dialogues(3), settings(micro_batch_size=3), pad_id=0, seed=0, world=ALONE)
    micro_batch = feed.step(0).passes[0]
    values = -torch.arange(1.0, len(micro_batch.token_answers) + 1)
    readings = Readings.of(micro_batch)
    assert readings.losses.isnan().all()
    for tokens in (slice(0, 2), slice(2, len(values))):
        readings.put_dialogues(values[tokens], tokens)
    first = int(micro_batch.answer_lengths[0])
    assert float(readings.losses[0]) == pytest.approx((first + 1) / 2)
    assert float(readings.log_probs[0]) == pytest.approx(-first * (first + 1) / 2)


def test_pairs_are_filled_in_where_they_stand():
    feed = Feed(pairs(3), settings(objective={"name": "dpo"}, micro_batch_size=3), pad_id=0, seed=0, world=ALONE)
    micro_batch = feed.pass_of([0, 1, 2])
    readings = Readings.of(micro_batch)
    tokens = slice(micro_batch.block_sizes[0], sum(micro_batch.block_sizes))
    values = torch.full((tokens.stop - tokens.start,), -0.5)
    readings.put_pairs(values, torch.tensor([1.0, 2.0]), tokens, slice(1, 3))
    assert readings.losses[0].isnan()
    assert readings.losses[1:].tolist() == [1.0, 2.0]
    torch.testing.assert_close(readings.log_probs[2:], -0.5 * micro_batch.answer_lengths[2:])


def test_what_is_no_number_is_worse_than_any_number():
    order = worst_first([("a", 1.0), ("b", math.nan), ("c", math.inf), ("d", -1.0)])
    assert [name for name, _ in order] == ["b", "c", "a", "d"]
