import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.teacher_cache.plan import plan_shards

token_lists = st.lists(st.integers(0, 9), min_size=1, max_size=5).map(tuple)
sequence_lists = st.lists(st.builds(TokenizedSequence, token_lists, token_lists), max_size=20)


def planned(sequences, *, shard_tokens=4, max_length_tokens=10, vocab_size=10):
    return plan_shards(sequences, shard_tokens=shard_tokens, max_length_tokens=max_length_tokens, vocab_size=vocab_size)


@given(sequences=sequence_lists)
def test_every_distinct_sequence_stands_in_exactly_one_shard(sequences):
    ids = [item.id for shard in planned(sequences).shards for item in shard.sequences]
    assert sorted(ids) == sorted({sequence.sequence_id for sequence in sequences})


@given(sequences=sequence_lists, shard_tokens=st.integers(1, 12))
def test_only_the_last_sequence_of_a_shard_overshoots(sequences, shard_tokens):
    for shard in planned(sequences, shard_tokens=shard_tokens).shards:
        assert shard.num_tokens < shard_tokens + 5


@given(sequences=sequence_lists)
def test_inside_a_shard_the_longest_stand_first(sequences):
    for shard in planned(sequences).shards:
        lengths = [item.length for item in shard.sequences]
        assert lengths == sorted(lengths, reverse=True)


def test_shards_follow_the_order_of_the_sequences():
    """Completions of 3, 2, 1 tokens, shards close at 4: the first two make 5 tokens and close shard 0."""
    rows = [TokenizedSequence((1,), (2,) * count) for count in (3, 2, 1)]
    plan = planned(rows)
    assert [[item.num_tokens for item in shard.sequences] for shard in plan.shards] == [[3, 2], [1]]
    assert [shard.name for shard in plan.shards] == ["00000.safetensors", "00001.safetensors"]
    assert (plan.num_sequences, plan.num_tokens) == (3, 6)


def test_a_sequence_that_comes_twice_is_planned_once():
    row = TokenizedSequence((1,), (2, 3))
    assert planned([row, TokenizedSequence((1,), (2, 3))]) == planned([row])


def test_the_plans_fingerprint_tells_other_sequences_and_other_shards():
    rows = [TokenizedSequence((1,), (token, token)) for token in range(4)]
    prints = {
        planned(rows).fingerprint,
        planned(rows[:3]).fingerprint,
        planned(rows, shard_tokens=2).fingerprint,
    }
    assert len(prints) == 3
    assert planned(rows).fingerprint == planned(rows).fingerprint


@pytest.mark.parametrize(
    ("prompt", "completion", "message"),
    [
        ((), (1,), "has an empty prompt"),
        ((1,), (), "has an empty completion"),
        ((1,) * 6, (1,) * 5, r"has 11 tokens, cache\.max_length_tokens is 10"),
        ((1,), (10,), "has token id 10, the teacher's vocabulary has 10 tokens"),
        ((-1,), (1,), "has token id -1, the teacher's vocabulary has 10 tokens"),
    ],
)
def test_a_sequence_that_cannot_be_scored_is_refused_by_name(prompt, completion, message):
    row = TokenizedSequence(prompt, completion)
    with pytest.raises(CacheError, match=f"sequence {row.sequence_id[:12]} {message}"):
        planned([row])
