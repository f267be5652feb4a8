import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.data.packing import batches_by_length, conversation_row, pad_rows, sequence_row
from distill.data.sequences import TokenizedConversation, TokenizedSequence, sequence_id
from distill.errors import DataError
from tests.strategies import token_ids


def test_pad_rows_known_answer():
    """Rows (7 8 | 9) and (5 | 6): targets are inputs shifted by one; the short row ends in padding."""
    batch = pad_rows([([7, 8, 9], [False, False, True], "a"), ([5, 6], [False, True], "b")], pad_id=0)
    assert batch.input_ids.tolist() == [[7, 8], [5, 0]]
    assert batch.target_ids.tolist() == [[8, 9], [6, 0]]
    assert batch.completion_mask.tolist() == [[False, True], [True, False]]
    assert batch.attention_mask.tolist() == [[True, True], [True, False]]
    assert batch.position_ids.tolist() == [[0, 1], [0, 1]]
    assert batch.row_ids == ("a", "b")
    assert (batch.input_ids.dtype, batch.completion_mask.dtype) == (torch.int64, torch.bool)


@given(st.lists(st.tuples(token_ids(), token_ids()), min_size=1, max_size=4))
def test_masked_targets_are_the_completions_in_order(pairs):
    sequences = [TokenizedSequence(tuple(prompt), tuple(completion)) for prompt, completion in pairs]
    batch = pad_rows([sequence_row(sequence) for sequence in sequences], pad_id=49)
    for row, sequence in enumerate(sequences):
        assert batch.target_ids[row][batch.completion_mask[row]].tolist() == list(sequence.completion_ids)
        whole = [*sequence.prompt_ids, *sequence.completion_ids]
        assert batch.input_ids[row][batch.attention_mask[row]].tolist() == whole[:-1]


@given(token_ids(), token_ids(), token_ids())
def test_a_row_is_the_same_beside_longer_ones(prompt, completion, other):
    row = sequence_row(TokenizedSequence(tuple(prompt), tuple(completion)))
    alone = pad_rows([row], pad_id=3)
    beside = pad_rows([row, sequence_row(TokenizedSequence((1,), (*other, *completion)))], pad_id=3)
    width = alone.input_ids.shape[1]
    for name in ("input_ids", "attention_mask", "position_ids", "target_ids", "completion_mask"):
        assert torch.equal(getattr(beside, name)[:1, :width], getattr(alone, name))
    assert not beside.completion_mask[0, width:].any()


def test_rows_carry_their_ids():
    assert sequence_row(TokenizedSequence((1,), (2,)))[2] == sequence_id((1,), (2,))
    conversation = TokenizedConversation("c", (1, 2, 3), (False, True, False))
    assert conversation_row(conversation) == ((1, 2, 3), (False, True, False), "c")


def test_a_batch_moves_whole():
    batch = pad_rows([([1, 2], [False, True], "a")], pad_id=0).to("meta")
    assert {batch.input_ids.device.type, batch.completion_mask.device.type} == {"meta"}
    assert batch.row_ids == ("a",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "a batch of no rows"),
        ([([1, 2], [True], "x")], "row x has 2 tokens and 1 completion flags"),
        ([([1], [False], "x")], r"row x has 1 token\(s\)"),
        ([([1, 2], [True, True], "x")], "row x begins with a completion token"),
        ([([1, 2], [False, False], "x")], "row x has no completion token"),
    ],
)
def test_pad_rows_refuses(rows, message):
    with pytest.raises(DataError, match=message):
        pad_rows(rows, pad_id=0)


def test_batches_by_length_known_answer():
    """Lengths 3 9 4 9 and 20 tokens a batch: two nines make 18, a third row would make 27."""
    assert batches_by_length([3, 9, 4, 9], max_tokens=20, max_rows=8) == [[1, 3], [2, 0]]
    assert batches_by_length([3, 9, 4, 9], max_tokens=None, max_rows=3) == [[1, 3, 2], [0]]


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 60), st.integers(1, 5))
def test_batches_hold_every_row_once_within_their_bounds(lengths, max_tokens, max_rows):
    batches = batches_by_length(lengths, max_tokens=max_tokens, max_rows=max_rows)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= max_tokens
    longest = [lengths[batch[0]] for batch in batches]
    assert longest == sorted(longest, reverse=True)
