import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.data.prompt_packs import PromptGroup, dialogue_item, group_item, pack_groups, pack_items, rows_of, runs_of
from distill.data.sequences import TokenizedConversation
from distill.errors import DataError

ids = st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple)
group_lists = st.lists(
    st.builds(PromptGroup, ids, st.lists(ids, min_size=1, max_size=3).map(tuple)), min_size=1, max_size=5
)


def test_known_row_of_a_prompt_with_two_completions():
    """Prompt 5 6, completions 7 8 9 and 4 3: rows hold 5 6 | 7 8 | 4, for last tokens are targets only."""
    batch = pack_groups([PromptGroup((5, 6), ((7, 8, 9), (4, 3)))], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8, 4]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    assert batch.branch_ids.tolist() == [[0, 0, 1, 1, 2]]
    assert batch.source_index.tolist() == [1, 2, 3, 1, 4]
    assert batch.target_ids.tolist() == [7, 8, 9, 4, 3]
    assert batch.lengths == (3, 2)
    sees = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]
    assert batch.attention_mask().int().tolist() == [[sees]]


def test_a_window_counts_positions_not_places_in_the_row():
    """The second completion's first token stands three places after the prompt's last one, but one position."""
    batch = pack_groups([PromptGroup((5, 6), ((7, 8, 9), (4, 3)))], pad_id=0)
    assert batch.attention_mask(window=2)[0, 0, 4].tolist() == [False, True, False, False, True]


def test_short_groups_share_a_row_and_do_not_see_each_other():
    groups = [PromptGroup((1, 1, 1), ((2, 2),)), PromptGroup((3,), ((4, 4),)), PromptGroup((5,), ((6,),))]
    batch = pack_groups(groups, pad_id=0, pack_tokens=4)
    assert batch.input_ids.tolist() == [[1, 1, 1, 2], [3, 4, 5, 0]]
    assert batch.group_ids.tolist() == [[0, 0, 0, 0], [0, 0, 1, -1]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
    assert batch.source_index.tolist() == [2, 3, 4, 5, 6]
    assert batch.attention_mask()[1, 0, 2].tolist() == [False, False, True, False]


def test_a_completion_of_one_token_takes_no_position():
    batch = pack_groups([PromptGroup((1, 2), ((3,), (4,)))], pad_id=0)
    assert batch.input_ids.tolist() == [[1, 2]]
    assert batch.source_index.tolist() == [1, 1]


@given(groups=group_lists, pack_tokens=st.one_of(st.none(), st.integers(1, 40)))
def test_what_a_token_sees_is_its_own_sequence_so_far(groups, pack_tokens):
    """Read through the mask in order of position, each source shows prompt and completion up to its target."""
    batch = pack_groups(groups, pad_id=0, pack_tokens=pack_tokens)
    width = batch.input_ids.shape[1]
    mask = batch.attention_mask()[:, 0]
    token = 0
    for group in groups:
        for completion in group.completions:
            for number in range(len(completion)):
                row, place = divmod(int(batch.source_index[token]), width)
                seen = mask[row, place]
                assert batch.input_ids[row][seen].tolist() == [*group.prompt_ids, *completion[:number]]
                assert batch.position_ids[row][seen].tolist() == list(range(int(seen.sum())))
                assert int(batch.target_ids[token]) == completion[number]
                token += 1
    assert token == len(batch.target_ids) == sum(group.num_tokens for group in groups)


@given(groups=group_lists)
def test_every_position_sees_itself_so_that_no_softmax_is_empty(groups):
    batch = pack_groups(groups, pad_id=0, pack_tokens=12)
    assert bool(batch.attention_mask()[:, 0].diagonal(dim1=-2, dim2=-1).all())


@given(groups=group_lists, pack_tokens=st.integers(1, 40))
def test_every_token_of_every_group_has_one_position(groups, pack_tokens):
    batch = pack_groups(groups, pad_id=0, pack_tokens=pack_tokens)
    assert int((batch.branch_ids >= 0).sum()) == sum(group.num_positions for group in groups)


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), capacity=st.integers(1, 20))
def test_rows_hold_every_item_once_and_no_more_than_fits(sizes, capacity):
    rows = rows_of(sizes, capacity=capacity)
    assert sorted(item for row in rows for item in row) == list(range(len(sizes)))
    assert all(len(row) == 1 or sum(sizes[item] for item in row) <= capacity for row in rows)


def test_one_sequence_a_row_is_no_branch():
    plain = [PromptGroup((1,), ((2, 3),)), PromptGroup((1, 2), ((3,),))]
    assert not pack_groups(plain, pad_id=0).is_branched
    assert pack_groups(plain, pad_id=0, pack_tokens=9).is_branched
    assert pack_groups([PromptGroup((1,), ((2, 3), (4, 5)))], pad_id=0).is_branched


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "a batch of no groups"),
        ([PromptGroup((), ((1,),))], "group 0 has an empty prompt"),
        ([PromptGroup((1,), ())], "group 0 has no completion"),
        ([PromptGroup((1,), ((2,), ()))], "group 0 has an empty completion"),
    ],
)
def test_what_predicts_nothing_is_refused(groups, message):
    with pytest.raises(DataError, match=message):
        pack_groups(groups, pad_id=0)


def test_a_batch_moves_with_all_its_tensors():
    batch = pack_groups([PromptGroup((1,), ((2, 3),))], pad_id=0).to("meta")
    tensors = (batch.input_ids, batch.position_ids, batch.group_ids, batch.branch_ids, batch.source_index)
    assert {tensor.device.type for tensor in (*tensors, batch.target_ids)} == {"meta"}
    assert batch.target_ids.dtype == torch.int64


def test_known_row_of_a_dialogue():
    """Tokens 3 and 4 of five count: places 2 and 3 predict them; the last token is a target only."""
    item = dialogue_item(TokenizedConversation("a", (5, 6, 7, 8, 9), (False, False, False, True, True)))
    batch = pack_items([item], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7, 8]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3]]
    assert batch.source_index.tolist() == [2, 3]
    assert batch.target_ids.tolist() == [8, 9]
    assert batch.lengths == (2,)


def test_what_follows_a_dialogues_last_completion_is_not_read():
    item = dialogue_item(TokenizedConversation("a", (5, 6, 7, 8, 9), (True, True, False, False, False)))
    assert list(item.input_ids) == [5]
    assert list(item.target_ids) == [6]


def test_a_dialogue_without_completions_is_refused():
    with pytest.raises(DataError, match="row a has no completion token"):
        dialogue_item(TokenizedConversation("a", (5, 6), (True, False)))


def test_dialogues_and_groups_share_a_row():
    dialogue = dialogue_item(TokenizedConversation("a", (7, 8), (False, True)))
    group = group_item(PromptGroup((1, 2), ((3, 4), (5, 6, 9))))
    batch = pack_items([dialogue, group, dialogue], pad_id=0, pack_tokens=7)
    assert batch.input_ids.tolist() == [[7, 1, 2, 3, 5, 6, 7]]
    assert batch.lengths == (1, 2, 3, 1)
    assert runs_of(batch).tolist() == [[0, 1], [0, 2], [1, 1], [2, 2], [0, 1]]


def test_a_completion_of_one_token_has_no_run():
    batch = pack_groups([PromptGroup((1, 2), ((3,), (4, 5))), PromptGroup((6,), ((7,),))], pad_id=0, pack_tokens=9)
    assert runs_of(batch).tolist() == [[0, 2], [2, 1], [0, 1]]
