from hypothesis import given
from hypothesis import strategies as st

from distill.data import TokenizedConversation, TokenizedPair, TokenizedSequence
from distill.training.passes import (
    Budget,
    balanced_passes,
    groups_of,
    items_of,
    max_width,
    padded_passes,
    size_of,
)

PAIR = TokenizedPair("p", TokenizedSequence((1, 2), (3, 4, 5)), TokenizedSequence((1, 2), (6,)))
sizes_lists = st.lists(st.integers(1, 50), min_size=1, max_size=24)
budgets = st.builds(Budget, st.integers(1, 200), st.one_of(st.none(), st.integers(1, 9)))


def test_a_pairs_prompt_is_read_once():
    """Prompt 2, and 2 + 0 places of answers whose last tokens are targets only."""
    (group,) = groups_of(PAIR, shares_prompt=True)
    assert group.prompt_ids == (1, 2)
    assert group.completions == ((3, 4, 5), (6,))
    assert size_of(PAIR, form="by_runs") == 4


def test_prompts_that_differ_are_read_both():
    pair = TokenizedPair("p", PAIR.chosen, TokenizedSequence((1, 9), (6,)))
    assert [group.prompt_ids for group in groups_of(pair, shares_prompt=True)] == [(1, 2), (1, 9)]
    assert size_of(pair, form="by_runs") == 4 + 2


def test_a_model_that_reads_one_sequence_a_row_pays_for_two_padded_ones():
    assert [len(item.input_ids) for item in items_of(PAIR, form=None)] == [4, 2]
    assert size_of(PAIR, form=None) == 2 * 4
    assert max_width(items_of(PAIR, form=None), form=None) is None


def test_a_dialogue_is_read_up_to_its_last_completion():
    dialogue = TokenizedConversation("a", (1, 2, 3, 4), (False, True, True, False))
    assert size_of(dialogue, form="by_runs") == 2
    assert max_width(items_of(dialogue, form="one"), form="one") == 2


def test_passes_are_as_few_as_the_budget_allows_and_alike():
    """Sizes 9 8 2 1 in 10 tokens: two passes of 9 + 1 and 8 + 2; in 20: one."""
    assert balanced_passes([9, 1, 8, 2], range(4), budget=Budget(10), world_size=1) == [[0, 1], [2, 3]]
    assert balanced_passes([9, 1, 8, 2], range(4), budget=Budget(20), world_size=1) == [[0, 2, 3, 1]]


def test_an_example_beyond_the_budget_makes_a_pass_of_its_own():
    assert balanced_passes([30, 1, 1], range(3), budget=Budget(10), world_size=1) == [[0], [1, 2]]
    assert padded_passes([30, 1, 1], range(3), budget=Budget(10), world_size=1) == [[0], [1, 2]]


def test_a_bound_on_examples_holds_beside_the_budget():
    assert balanced_passes([1] * 5, range(5), budget=Budget(100, 2), world_size=1) == [[0, 3], [1, 4], [2]]
    assert padded_passes([1] * 5, range(5), budget=Budget(100, 2), world_size=1) == [[0, 1], [2, 3], [4]]


def test_padded_rows_share_a_pass_with_rows_of_like_length():
    """In 18 tokens two rows of 9 fit, padding counted: 9 with 8, then 2 with 1."""
    assert padded_passes([9, 1, 8, 2], range(4), budget=Budget(18), world_size=1) == [[0, 2], [3, 1]]


def test_a_rank_without_examples_gets_an_empty_pass():
    assert balanced_passes([5], [0], budget=Budget(10), world_size=2) == [[0], []]
    assert padded_passes([5], [0], budget=Budget(10), world_size=2) == [[0], []]


@given(sizes=sizes_lists, budget=budgets, world_size=st.integers(1, 3))
def test_every_example_stands_in_one_pass_within_the_budget(sizes: list[int], budget: Budget, world_size: int):
    for cut in (balanced_passes, padded_passes):
        passes = cut(sizes, range(len(sizes)), budget=budget, world_size=world_size)
        assert sorted(index for part in passes for index in part) == list(range(len(sizes)))
        assert len(passes) % world_size == 0
        for part in passes:
            longest = max((sizes[index] for index in part), default=0)
            read = sum(sizes[index] for index in part) if cut is balanced_passes else longest * len(part)
            assert len(part) <= 1 or read <= budget.max_tokens
            assert budget.max_examples is None or len(part) <= budget.max_examples


@given(sizes=sizes_lists, budget=budgets)
def test_passes_do_not_depend_on_the_order_of_the_indices(sizes: list[int], budget: Budget):
    indices = list(range(len(sizes)))
    for cut in (balanced_passes, padded_passes):
        forward = cut(sizes, indices, budget=budget, world_size=2)
        assert forward == cut(sizes, indices[::-1], budget=budget, world_size=2)
