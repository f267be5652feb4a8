import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import DataError
from eval.judged_pairs import JudgedPair
from eval.preference_rate import accuracy_difference, judged_preference_rate, preference_rate

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


def judged(question, first, second, *, models=("student", "teacher"), lengths=(10, 10), turn=1):
    return JudgedPair(question, turn, "judge", *models, (first, second), lengths)


JUDGED = [
    judged(1, "model_1", "model_1"),
    judged(1, "model_1", "tie", turn=2),
    judged(2, "model_1", "model_1", models=("teacher", "student"), lengths=(30, 10)),
    judged(3, "model_2", "model_2"),
    judged(3, "model_2", "error", turn=2),
    judged(4, "model_1", "model_1", models=("student", "other")),
]


def test_judged_preference_rate_known_answer():
    """Turns: won, won in one order, lost (the teacher stands first), lost; one unscored, one of another model.

    Conservative: (1 - 2) / 4; averaged: (1 + 1/2 - 2) / 4. Had the unscored one been lost or won: (-1 -+ 1) / 5.
    """
    rate = judged_preference_rate(JUDGED, student="student", teacher="teacher", seed=0)
    assert (rate.outcomes.num_wins, rate.outcomes.num_ties, rate.outcomes.num_losses) == (1, 1, 2)
    assert rate.outcomes.signed_rate.mean == pytest.approx(-1 / 4)
    assert (rate.num_unscored, rate.lowest, rate.highest) == (1, pytest.approx(-2 / 5), 0.0)
    assert rate.outcomes.num_clusters == 3
    averaged = judged_preference_rate(JUDGED, student="student", teacher="teacher", combination="averaged", seed=0)
    assert averaged.outcomes.signed_rate.mean == pytest.approx(-1 / 8)
    other_way = judged_preference_rate(JUDGED, student="teacher", teacher="student", seed=0)
    assert other_way.outcomes.signed_rate.mean == pytest.approx(1 / 4)


def test_sources_and_lengths_of_judged_pairs():
    """Sources with one question have no interval and are left out; one unknown length leaves out length control."""
    sources = {1: "chat", 2: "chat", 3: "code"}
    rate = judged_preference_rate(JUDGED, student="student", teacher="teacher", sources=sources, seed=0)
    assert list(rate.by_source) == ["chat"]
    assert rate.by_source["chat"].signed_rate.mean == pytest.approx(0.0)
    assert rate.length_controlled.raw == pytest.approx(3 / 8)
    assert rate.length_controlled.length_effect > 0  # the one shorter answer lost
    unknown = [*JUDGED, judged(5, "tie", "tie", lengths=None)]
    assert judged_preference_rate(unknown, student="student", teacher="teacher", seed=0).length_controlled is None


def test_a_judge_without_verdicts_gives_no_rate():
    with pytest.raises(DataError, match="1 pairs of student and teacher, none with a verdict in both orders"):
        judged_preference_rate([judged(1, "error", "tie")], student="student", teacher="teacher", seed=0)
