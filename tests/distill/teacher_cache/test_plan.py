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
def test_only_the_last_group_of_a_shard_overshoots(sequences, shard_tokens):
    for shard in planned(sequences, shard_tokens=shard_tokens).shards:
        assert shard.num_tokens < shard_tokens + max(group.num_tokens for group in shard.groups)


@given(sequences=sequence_lists)
def test_inside_a_shard_the_groups_with_most_to_read_stand_first(sequences):
    for shard in planned(sequences).shards:
        sizes = [group.num_positions for group in shard.groups]
        assert sizes == sorted(sizes, reverse=True)


def test_shards_follow_the_order_of_the_sequences():
    """Completions of 3, 2, 1 tokens, shards close at 4: the first two make 5 tokens and close shard 0."""
    rows = [TokenizedSequence((count,), (2,) * count) for count in (3, 2, 1)]
    plan = planned(rows)
    assert [[item.num_tokens for item in shard.sequences] for shard in plan.shards] == [[3, 2], [1]]
    assert [shard.name for shard in plan.shards] == ["00000.safetensors", "00001.safetensors"]
    assert (plan.num_sequences, plan.num_tokens, plan.longest) == (3, 6, 4)


def test_completions_of_one_prompt_that_come_together_are_a_group_in_one_shard():
    """Shards close at 4 tokens: a pair's 3 + 3 overshoot together; a prompt that returns is a new group."""
    rows = [TokenizedSequence((1,), (2, 2, 2)), TokenizedSequence((1,), (3, 3, 3)), TokenizedSequence((4,), (5,))]
    plan = planned([*rows, TokenizedSequence((1,), (6,))])
    sizes = [[[item.num_tokens for item in group.sequences] for group in shard.groups] for shard in plan.shards]
    assert sizes == [[[3, 3]], [[1], [1]]]
    assert plan.shards[0].groups[0].num_positions == 1 + 2 + 2


def test_a_sequence_that_comes_twice_is_planned_once():
    row = TokenizedSequence((1,), (2, 3))
    assert planned([row, TokenizedSequence((1,), (2, 3))]) == planned([row])


def test_the_plans_fingerprint_tells_other_sequences_and_other_shards():
    rows = [TokenizedSequence((token,), (token, token)) for token in range(4)]
    prints = {
        planned(rows).fingerprint,
        planned(rows[:3]).fingerprint,
        planned(rows, shard_tokens=2).fingerprint,
    }
    assert len(prints) == 3
    assert planned(rows).fingerprint == planned(rows).fingerprint


@given(sequences=sequence_lists, max_batch_tokens=st.integers(1, 40), shares_prompts=st.booleans())
def test_batches_hold_the_shards_sequences_in_order_within_the_budget(sequences, max_batch_tokens, shares_prompts):
    for shard in planned(sequences, shard_tokens=30).shards:
        batches = shard.batches(max_batch_tokens, shares_prompts=shares_prompts)
        ids = [item.id for batch in batches for item in batch.sequences]
        assert ids == [item.id for item in shard.sequences]
        for batch in batches:
            sizes = [group.num_positions for group in batch.groups]
            assert batch.row_tokens == max(sizes)
            if not shares_prompts:
                assert all(len(group.sequences) == 1 for group in batch.groups)
                assert len(sizes) == 1 or len(sizes) * max(sizes) <= max_batch_tokens


def test_short_groups_fill_rows_up():
    """Rows of 6: one of 6, then 4 + 2; the budget of 12 holds both rows, the next group of 2 opens a new batch."""
    rows = [TokenizedSequence((count,), (2,) * count) for count in (6, 4)]
    rows += [TokenizedSequence((token,), (token, token)) for token in (7, 8)]
    (shard,) = planned(rows, shard_tokens=30).shards
    assert [[group.num_positions for group in batch.groups] for batch in shard.batches(12)] == [[6, 4, 2], [2]]
    assert [batch.row_tokens for batch in shard.batches(12)] == [6, 2]


def test_a_group_larger_than_a_batch_is_read_in_parts():
    """Prompt 1 token, completions of 4, 4 and 3: two share a pass of 8 positions, 1 + 3 + 3 = 7, the third is alone."""
    rows = [TokenizedSequence((1,), (token,) * count) for token, count in ((2, 4), (3, 4), (4, 3))]
    (shard,) = planned(rows, shard_tokens=30).shards
    assert [[len(item.groups), item.num_positions] for item in shard.batches(8)] == [[1, 7], [1, 3]]


@given(sequences=sequence_lists.filter(bool), max_positions=st.integers(1, 30))
def test_a_batch_is_cut_in_order_into_parts_that_fit(sequences, max_positions):
    for batch in planned(sequences, shard_tokens=30).shards[0].batches(1_000):
        parts = batch.cut(max_positions)
        assert [item.id for part in parts for item in part.sequences] == [item.id for item in batch.sequences]
        assert all(part.num_positions <= max_positions or len(part.sequences) == 1 for part in parts)


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
