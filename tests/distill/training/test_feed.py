import pytest
import torch

from distill.data import TokenizedConversation, TokenizedPair, TokenizedSequence
from distill.models.world import World
from distill.objectives import HiddenStateRows
from distill.training.cached_scores import cached_scores
from distill.training.feed import Counts, Feed, counts_of
from tests.distill.training.examples import Scored, dialogues, pairs, settings, tokenizer

ALONE = World(0, 1, 0)


def test_counts_of_a_dialogue_leave_its_first_token_out():
    """Five tokens; flags on tokens 0 and 3: the first is predicted by none, so one counts."""
    row = TokenizedConversation("a", (1, 2, 3, 4, 5), (True, False, False, True, False))
    assert counts_of(row) == Counts(1, 5, 1)


def test_counts_of_a_pair_hold_its_prompt_once():
    """Prompt 2, answers 3 and 1: 6 tokens, 4 of them completions."""
    pair = TokenizedPair("p", TokenizedSequence((1, 2), (3, 4, 5)), TokenizedSequence((1, 2), (6,)))
    assert counts_of(pair) == Counts(1, 6, 4)


def test_a_step_is_a_function_of_its_number():
    def feed(seed: int) -> Feed:
        return Feed(dialogues(20), settings(max_tokens_per_pass=40), pad_id=0, seed=seed, world=ALONE)

    first, second = feed(5).step(3), feed(5).step(3)
    assert len(first.passes) > 1
    assert [p.example_ids for p in first.passes] == [p.example_ids for p in second.passes]
    assert [p.pack.input_ids.tolist() for p in first.passes] == [p.pack.input_ids.tolist() for p in second.passes]
    assert [p.example_ids for p in first.passes] != [p.example_ids for p in feed(6).step(3).passes]


@pytest.mark.parametrize("form", ["by_runs", "one", None])
def test_the_counts_of_a_step_are_those_of_all_its_passes(form):
    batch = Feed(dialogues(20), settings(micro_batch_size=2), pad_id=0, seed=5, world=ALONE, form=form).step(0)
    assert batch.counts.num_completion_tokens == sum(len(p.target_ids) for p in batch.passes)
    assert batch.counts.num_examples == sum(len(p.example_ids) for p in batch.passes) == 8


def test_one_row_without_padding_holds_a_whole_pass():
    (only,) = Feed(pairs(8), settings(objective={"name": "dpo"}), pad_id=0, seed=5, world=ALONE).step(0).passes
    assert only.pack.input_ids.shape[0] == 1
    assert int((only.pack.group_ids < 0).sum()) == 0
    assert only.runs is not None
    assert int(only.runs[:, 1].sum()) == only.pack.input_ids.shape[1]


def test_a_model_that_takes_no_packed_rows_gets_one_answer_a_row():
    feed = Feed(pairs(8), settings(objective={"name": "dpo"}), pad_id=0, seed=5, world=ALONE, form=None)
    (only,) = feed.step(0).passes
    assert only.pack.input_ids.shape[0] == 16
    assert not only.is_branched
    assert only.runs is None


@pytest.mark.parametrize("form", ["by_runs", "one", None])
def test_answers_come_chosen_then_rejected_with_their_cached_scores(scored: Scored, form):
    chosen = settings(objective={"name": "dadpo", "token_divergence": {"weight": 1.0}}, micro_batch_size=4)
    scores = cached_scores(
        scored.pairs,
        chosen,
        teacher_cache=scored.teacher,
        reference_cache=scored.reference,
        student_vocab_size=scored.teacher.manifest.vocab_size,
        tokenizer=tokenizer(),
    )
    batch = Feed(scored.pairs, chosen, pad_id=0, seed=5, world=ALONE, form=form, scores=scores).step(0)
    by_id = {pair.id: pair for pair in scored.pairs}
    for part in batch.passes:
        answers = [answer for i in part.example_ids for answer in (by_id[i].chosen, by_id[i].rejected)]
        assert part.target_ids.tolist() == [token for answer in answers for token in answer.completion_ids]
        lengths = [len(answer.completion_ids) for answer in answers]
        assert part.answer_lengths.tolist() == lengths
        assert part.token_answers.tolist() == [n for n, length in enumerate(lengths) for _ in range(length)]
        assert list(part.block_sizes) == [a + b for a, b in zip(lengths[::2], lengths[1::2], strict=True)]
        expected = torch.stack([scored.teacher[a.sequence_id].token_log_probs().sum() for a in answers])
        assert part.teacher_log_probs is not None
        torch.testing.assert_close(part.teacher_log_probs, expected)
        assert isinstance(part.teacher_rows, HiddenStateRows)
        assert len(part.teacher_rows.hidden_states) == len(part.target_ids)


def test_a_rank_without_rows_joins_with_a_pass_that_does_not_count():
    """One example over two ranks: the second repeats it and counts nothing."""
    batches = [
        Feed(dialogues(1), settings(), pad_id=0, seed=5, world=World(rank, 2, rank)).step(0) for rank in range(2)
    ]
    assert [[part.is_counted for part in batch.passes] for batch in batches] == [[True], [False]]
    assert batches[1].counts.num_examples == 1


def test_held_out_batches_hold_every_example_once():
    feed = Feed(pairs(11), settings(objective={"name": "dpo"}), pad_id=0, seed=5, world=ALONE)
    batches = [feed.in_order(number) for number in range(feed.num_batches)]
    assert [batch.counts.num_examples for batch in batches] == [8, 3]
    assert sum(len(part.answer_lengths) for batch in batches for part in batch.passes if part.is_counted) == 22
    assert sum((batch.counts for batch in batches), Counts()) == feed.all_counts


def test_ranks_share_a_batch_and_know_its_counts():
    whole = Feed(dialogues(20), settings(), pad_id=0, seed=5, world=ALONE).step(0)
    halves = [Feed(dialogues(20), settings(), pad_id=0, seed=5, world=World(r, 2, r)).step(0) for r in range(2)]
    assert [half.counts for half in halves] == [whole.counts] * 2
    assert {len(half.passes) for half in halves} == {1}
    ids = [i for half in halves for part in half.passes for i in part.example_ids]
    assert sorted(ids) == sorted(whole.passes[0].example_ids)
    read = [half.passes[0].pack.input_ids.shape[1] for half in halves]
    assert max(read) - min(read) <= 14
