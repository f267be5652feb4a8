import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import DataError
from eval.scores import proportion_interval
from eval.win_rate import win_rate

OUTCOMES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=2, max_size=12)


def test_win_rate_known_answer():
    """3 wins, 2 ties, 1 loss: (3 + 1) / 6 = 2/3, (3 - 1) / 6 = 1/3; decided 3 of 4; sign test 2 (1 + 4) / 2^4."""
    rate = win_rate([1, 1, 1, 0.5, 0.5, 0], seed=0)
    assert (rate.num_wins, rate.num_ties, rate.num_losses, rate.num_clusters) == (3, 2, 1, 6)
    assert rate.win_rate.mean == pytest.approx(2 / 3)
    assert rate.signed_rate.mean == pytest.approx(1 / 3)
    assert rate.decided == proportion_interval(3, 4)
    assert rate.p_value == pytest.approx(10 / 16)


def test_turns_of_a_question_are_one_cluster():
    """Question 1: win and tie, won; question 2: win and loss, neither; question 3: lost twice."""
    rate = win_rate([1, 0.5, 1, 0, 0, 0], clusters=[1, 1, 2, 2, 3, 3], seed=1)
    assert (rate.num_wins, rate.num_ties, rate.num_losses, rate.num_clusters) == (2, 1, 3, 3)
    assert rate.decided == proportion_interval(1, 2)
    assert rate.p_value == 1.0


@settings(max_examples=20)
@given(OUTCOMES)
def test_changing_sides_mirrors_everything(outcomes):
    there, back = (win_rate(o, seed=2, num_resamples=80) for o in (outcomes, [1 - o for o in outcomes]))
    assert (there.num_wins, there.num_ties, there.num_losses) == (back.num_losses, back.num_ties, back.num_wins)
    assert there.signed_rate.mean == pytest.approx(-back.signed_rate.mean)
    assert there.p_value == back.p_value
    assert -1 <= there.signed_rate.low <= there.signed_rate.high <= 1


def test_only_ties_decide_nothing():
    rate = win_rate([0.5, 0.5, 0.5], seed=3)
    assert (rate.decided, rate.p_value, rate.win_rate.mean) == (None, 1.0, 0.5)


def test_outcomes_off_the_scale_are_refused():
    with pytest.raises(DataError, match="cluster 1 holds 2"):
        win_rate([1, 2], seed=0)
    with pytest.raises(DataError, match="2 outcomes in clusters given for 1"):
        win_rate([1, 0], clusters=["a"], seed=0)
