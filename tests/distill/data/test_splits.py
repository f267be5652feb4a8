import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.data.records import Conversation, Message
from distill.data.splits import Group, divided, drawn, grouped, normalised, without_leaks
from distill.errors import DataError


def asked(question, *, name=None, answer="Yes."):
    messages = (Message("user", question), Message("assistant", answer))
    return Conversation(name or question, messages if answer else messages[:1])


def groups(*questions, answer="Yes."):
    return grouped(asked(question, answer=answer) for question in questions)


def keys(found):
    return [group.key for group in found]


ALL = {"teacher": None, "prompts": None, "labelled": None, "valid": None, "test": None}
HUNDRED = tuple(f"question {number}" for number in range(100))


def test_normalised_forgets_case_punctuation_and_spaces():
    assert normalised("  What's  UP, doc?") == normalised("whats up doc") == "whats up doc"
    assert normalised("\u2019tis") == "tis"


def test_normalised_keeps_questions_of_punctuation_apart():
    assert normalised("???") != normalised("!")


def test_questions_that_differ_in_punctuation_form_one_group():
    first, second, other = asked("Hi!"), asked("hi", answer="Hello"), asked("Bye")
    assert grouped([first, other, second]) == [Group("hi", (first, second)), Group("bye", (other,))]


def test_divided_known_shares():
    """Of 100 questions 10 are for test and 10 for valid; the other 80 are halved."""
    splits = divided([groups(*HUNDRED)])
    assert {split: len(found) for split, found in splits.items()} == {
        "teacher": 40,
        "prompts": 40,
        "valid": 10,
        "test": 10,
    }


@given(st.lists(st.lists(st.integers(0, 10**6).map(str), max_size=30), max_size=4))
def test_divided_gives_every_group_to_one_split(strata):
    unique = [list(dict.fromkeys(stratum)) for stratum in strata]
    made = [[Group(f"{number}/{key}", (asked(key),)) for key in stratum] for number, stratum in enumerate(unique)]
    splits = divided(made)
    found = sorted(key for groups_of_split in splits.values() for key in keys(groups_of_split))
    assert found == sorted(group.key for stratum in made for group in stratum)


def test_divided_does_not_depend_on_the_order_of_rows():
    assert divided([groups(*HUNDRED)]) == divided([groups(*reversed(HUNDRED))])


def test_every_stratum_has_its_share_of_every_split():
    strata = [groups(*(f"{name} {number}" for number in range(20))) for name in ("a", "b")]
    for found in divided(strata).values():
        assert {key[0] for key in keys(found)} == {"a", "b"}


def test_splits_that_the_source_brings_are_not_cut_off():
    splits = divided([groups(*HUNDRED)], held_out=("valid",))
    assert {split: len(found) for split, found in splits.items()} == {"teacher": 45, "prompts": 45, "valid": 10}


def test_unanswered_questions_are_prompts_never_the_teachers():
    splits = divided([groups(*HUNDRED, answer="")])
    assert (len(splits["teacher"]), len(splits["prompts"])) == (0, 80)


def test_what_test_asks_no_other_split_asks(caplog):
    splits = {
        "test": groups("a"),
        "valid": groups("a", "b"),
        "teacher": groups("b", "c"),
        "prompts": groups("c", "d"),
        "labelled": groups("a", "c", "d"),
    }
    with caplog.at_level(logging.WARNING):
        kept = without_leaks(splits)
    assert {split: keys(found) for split, found in kept.items()} == {
        "test": ["a"],
        "valid": ["b"],
        "teacher": ["c"],
        "prompts": ["d"],
        "labelled": ["c"],
    }
    assert [record.getMessage() for record in caplog.records] == [
        "dropped 1 questions from valid: test, valid or the teacher's part asks them too",
        "dropped 1 questions from teacher: test, valid or the teacher's part asks them too",
        "dropped 1 questions from prompts: test, valid or the teacher's part asks them too",
        "dropped 2 questions from labelled: test, valid or prompts ask them too",
    ]


def test_drawn_removes_the_answers_of_prompts_only():
    splits = drawn(divided([groups(*HUNDRED)]), numbers=ALL, seed=0)
    assert all(c.messages[-1].role == "user" for c in splits["prompts"])
    assert all(c.messages[-1].role == "assistant" for s in ("teacher", "labelled", "valid", "test") for c in splits[s])


def test_labelled_are_the_teachers_and_never_prompts():
    splits = drawn(divided([groups(*HUNDRED)]), numbers={**ALL, "labelled": 7}, seed=3)
    labelled = {c.id for c in splits["labelled"]}
    assert len(labelled) == 7
    assert labelled <= {c.id for c in splits["teacher"]}
    assert not labelled & {c.id for c in splits["prompts"]}


def test_labelled_conversations_of_its_own_are_kept():
    splits = drawn({**divided([groups(*HUNDRED)]), "labelled": groups("mine")}, numbers=ALL, seed=0)
    assert [c.id for c in splits["labelled"]] == ["mine"]


def test_the_seed_changes_what_is_drawn_for_training_and_nothing_held_out():
    divided_groups = divided([groups(*HUNDRED)])
    numbers = {"teacher": 5, "prompts": 5, "labelled": 5, "valid": 5, "test": 5}
    first, second = (drawn(divided_groups, numbers=numbers, seed=seed) for seed in (0, 1))
    assert first == drawn(divided_groups, numbers=numbers, seed=0)
    assert all(first[split] == second[split] for split in ("valid", "test"))
    assert all(first[split] != second[split] for split in ("teacher", "prompts", "labelled"))


def test_a_larger_draw_begins_with_the_smaller_one():
    divided_groups = divided([groups(*HUNDRED)])
    small, large = (drawn(divided_groups, numbers={**ALL, "labelled": n}, seed=0)["labelled"] for n in (4, 9))
    assert large[:4] == small


def test_asking_for_more_than_there_is_is_refused():
    with pytest.raises(DataError, match=r"data\.num_test is 11, but the source has 10 conversations for test"):
        drawn(divided([groups(*HUNDRED)]), numbers={**ALL, "test": 11}, seed=0)
