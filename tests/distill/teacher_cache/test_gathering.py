import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.teacher_cache.gathering import gathered_ids, gathered_rows
from distill.teacher_cache.manifest import sequences_path, tier_path
from distill.teacher_cache.sequence_index import Places
from distill.teacher_cache.shard import SequencesReader, TierReader
from tests.distill.teacher_cache.synthetic import Synthetic, synthetic_cache

PLACES = st.lists(st.integers(0, 4), max_size=8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Synthetic:
    return synthetic_cache(tmp_path_factory.mktemp("cache") / "c")


def places_of(numbers: list[int]) -> Places:
    """Where the five sequences of the synthetic cache stand."""
    where = [(0, 0, 3), (0, 3, 4), (0, 4, 8), (1, 0, 2), (1, 2, 7)]
    rows = np.array([where[number] for number in numbers], dtype=np.int64).reshape(-1, 3)
    return Places(rows[:, 0], rows[:, 1], rows[:, 2])


@given(numbers=PLACES)
def test_tokens_come_end_to_end_in_the_order_asked(cache, numbers):
    shards = [SequencesReader(sequences_path(cache.folder, number)) for number in range(2)]
    found = gathered_ids(shards, places_of(numbers))
    assert found.tolist() == [token for i in numbers for token in cache.sequences[i].sequence.completion_ids]


@pytest.mark.parametrize("codec", ["scores", "exact", "exact-int8", "logits-bf16", "top-k", "sampled"])
@given(numbers=PLACES)
def test_rows_come_end_to_end_in_the_order_asked(cache, codec, numbers):
    opened = cache.open()
    manifest, tier = opened.manifest, opened.codec(codec)
    shards = {
        number: TierReader(
            tier_path(cache.folder, codec, number),
            tier,
            num_tokens=record.num_tokens,
            sequences_sha256=record.sha256,
        )
        for number, record in enumerate(manifest.sequences)
    }
    found = gathered_rows(shards, places_of(numbers), codec=tier)
    assert found.num_tokens == sum(cache.sequences[number].num_tokens for number in numbers)
    parts = [shards[shard].rows(start, end).records.flatten() for shard, start, end in places_of(numbers)]
    torch.testing.assert_close(found.records.flatten(), torch.cat([torch.zeros(0).byte(), *parts]))
