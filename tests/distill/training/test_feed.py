import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.data import TokenizedConversation, TokenizedPair, TokenizedSequence
from distill.models.world import World
from distill.training.cached_scores import cached_scores
from distill.training.feed import Counts, Feed, counts_of, length_of, shares, spread
from tests.distill.training.examples import Scored, dialogues, pairs, settings, tokenizer

ALONE = World(0, 1, 0)


def test_counts_of_a_dialogue_leave_its_first_token_out():
    """Five tokens; flags on tokens 0 and 3: the first is predicted by none, so one counts."""
    row = TokenizedConversation("a", (1, 2, 3, 4, 5), (True, False, False, True, False))
    assert counts_of(row) == Counts(1, 5, 1)
    assert length_of(row) == 5


def test_counts_of_a_pair_hold_both_rows():
    """Prompt 2 in both rows, answers 3 and 1: 8 tokens, 4 of them completions; the longer row has 5."""
    pair = TokenizedPair("p", TokenizedSequence((1, 2), (3, 4, 5)), TokenizedSequence((1, 2), (6,)))
    assert counts_of(pair) == Counts(1, 8, 4)
    assert length_of(pair) == 5


@given(items=st.lists(st.integers(), max_size=30), num_parts=st.integers(1, 9))
def test_spread_keeps_order_and_differs_by_one_at_most(items: list[int], num_parts: int):
    parts = spread(items, num_parts=num_parts)
    assert [item for part in parts for item in part] == items
    assert len(parts) == num_parts
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=24), world_size=st.integers(1, 3))
def test_the_shares_of_all_ranks_are_the_whole_batch_once(lengths: list[int], world_size: int):
    indices = list(range(len(lengths)))
    taken = [
        index
        for rank in range(world_size)
        for part in shares(lengths, indices, num_passes=2, rank=rank, world_size=world_size)
        for index in part
    ]
    assert sorted(taken) == indices


def test_rows_of_like_length_share_a_pass():
    """Lengths 9 1 8 2 in two passes: 9 with 8, then 2 with 1."""
    assert shares([9, 1, 8, 2], [0, 1, 2, 3], num_passes=2, rank=0, world_size=1) == [[0, 2], [3, 1]]


def test_a_step_is_a_function_of_its_number():
    def feed() -> Feed:
        return Feed(dialogues(20), settings(micro_batch_size=4), pad_id=0, seed=5, world=ALONE)

    first, second = feed().step(3), feed().step(3)
    assert len(first.passes) == 2
    assert [p.rows.row_ids for p in first.passes] == [p.rows.row_ids for p in second.passes]
    other = Feed(dialogues(20), settings(micro_batch_size=4), pad_id=0, seed=6, world=ALONE).step(3)
    assert [p.rows.row_ids for p in first.passes] != [p.rows.row_ids for p in other.passes]


def test_the_counts_of_a_step_are_those_of_all_its_passes():
    batch = Feed(dialogues(20), settings(micro_batch_size=2), pad_id=0, seed=5, world=ALONE).step(0)
    assert batch.counts.num_completion_tokens == sum(len(p.target_ids) for p in batch.passes)
    assert batch.counts.num_examples == 8


def test_chosen_rows_come_first_with_their_cached_scores(scored: Scored):
    chosen = settings(objective={"name": "dadpo", "token_divergence": {"weight": 1.0}}, micro_batch_size=4)
    scores = cached_scores(
        scored.pairs,
        chosen,
        teacher_cache=scored.teacher,
        reference_cache=scored.reference,
        student_vocab_size=scored.teacher.manifest.vocab_size,
        tokenizer=tokenizer(),
    )
    batch = Feed(scored.pairs, chosen, pad_id=0, seed=5, world=ALONE, scores=scores).step(0)
    by_id = {pair.chosen.sequence_id: pair for pair in scored.pairs}
    for part in batch.passes:
        ids = part.rows.row_ids
        assert [by_id[i].rejected.sequence_id for i in ids[:4]] == list(ids[4:])
        expected = torch.stack([scored.teacher[i].token_log_probs().sum() for i in ids])
        assert part.teacher_log_probs is not None
        torch.testing.assert_close(part.teacher_log_probs, expected)
        assert part.teacher_hidden_states is not None
        assert len(part.teacher_hidden_states) == len(part.target_ids) == int(part.row_lengths.sum())
        assert part.target_ids.tolist() == scored.teacher.completion_ids(list(ids)).tolist()


def test_a_rank_without_rows_joins_with_a_pass_that_does_not_count():
    """One example over two passes: the second has none of its own."""
    batch = Feed(dialogues(1), settings(micro_batch_size=4), pad_id=0, seed=5, world=ALONE).step(0)
    assert [part.is_counted for part in batch.passes] == [True, False]
    assert batch.counts.num_examples == 1


def test_held_out_batches_hold_every_example_once():
    feed = Feed(pairs(11), settings(objective={"name": "dpo"}), pad_id=0, seed=5, world=ALONE)
    batches = [feed.in_order(number) for number in range(feed.num_batches)]
    assert [batch.counts.num_examples for batch in batches] == [8, 3]
    assert sum(len(part.row_lengths) for batch in batches for part in batch.passes if part.is_counted) == 22


@pytest.mark.parametrize("rank", [0, 1])
def test_two_ranks_see_halves_and_the_same_counts(rank: int):
    chosen = settings(micro_batch_size=4)
    whole = Feed(dialogues(20), settings(), pad_id=0, seed=5, world=ALONE).step(0)
    half = Feed(dialogues(20), chosen, pad_id=0, seed=5, world=World(rank, 2, rank)).step(0)
    assert half.counts == whole.counts
    assert half.passes[0].rows.row_ids == whole.passes[0].rows.row_ids[4 * rank : 4 * rank + 4]
