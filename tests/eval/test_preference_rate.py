import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import DataError
from eval.preference_rate import accuracy_difference, preference_rate

TURNS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12)


def test_preference_rate_known_answer():
    """Right turns 2:1, 1:1, 0:1, 0:2 and 1:1 (other turns): one win, two ties, two losses: (1 - 2) / 5."""
    student = [(True, True), (True, False), (False, False), (False, False), (True, False)]
    teacher = [(True, False), (True, False), (True, False), (True, True), (False, True)]
    rate = preference_rate(student, teacher, seed=0)
    assert (rate.num_wins, rate.num_ties, rate.num_losses) == (1, 2, 2)
    assert rate.rate.mean == -0.2
    assert rate.rate.low <= -0.2 <= rate.rate.high


@given(TURNS)
def test_a_model_against_itself_ties(turns: list[tuple[bool, bool]]):
    rate = preference_rate(turns, turns, seed=0)
    assert rate.num_ties == len(turns)
    assert (rate.rate.mean, rate.rate.low, rate.rate.high) == (0.0, 0.0, 0.0)


@given(TURNS, st.randoms(use_true_random=False))
def test_changing_sides_changes_the_sign(turns: list[tuple[bool, bool]], random):
    other = [random.choice(turns) for _ in turns]
    there, back = preference_rate(turns, other, seed=0), preference_rate(other, turns, seed=0)
    assert there.rate.mean == -back.rate.mean
    assert (there.num_wins, there.num_losses) == (back.num_losses, back.num_wins)


def test_accuracy_difference_is_over_turns_and_clustered_by_question():
    """Turns right: 3 of 4 against 1 of 4: +0.5, two clusters."""
    paired = accuracy_difference([(True, True), (True, False)], [(False, True), (False, False)], seed=0)
    assert paired.difference.mean == 0.5
    assert paired.num_clusters == 2


def test_other_questions_are_refused():
    with pytest.raises(DataError, match="1 questions against 2"):
        preference_rate([(True,)], [(True,), (True,)], seed=0)
    with pytest.raises(DataError, match="question 0: 1 turns against 2"):
        accuracy_difference([(True,)], [(True, False)], seed=0)
    with pytest.raises(DataError, match="no question to compare on"):
        preference_rate([], [], seed=0)
