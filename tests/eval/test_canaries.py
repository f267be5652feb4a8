import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import DataError, GateError
from eval.canaries import CONSTANT_ANSWER, answers_with_verdicts, canary_answers, canary_figure, require_caught

REAL = {1: ("a", "b"), 2: ("c", "d"), 3: ("e",)}


def test_empty_and_constant_canaries_keep_the_turns():
    assert canary_answers(REAL, kind="empty", seed=0) == {1: ("", ""), 2: ("", ""), 3: ("",)}
    assert canary_answers(REAL, kind="constant", seed=0)[3] == (CONSTANT_ANSWER,)


@settings(max_examples=20)
@given(st.integers(2, 9), st.integers(0, 2**16))
def test_shuffled_answers_are_all_there_and_none_at_its_own_question(num_questions, seed):
    answers = {number: (f"{number} one", f"{number} two") for number in range(num_questions)}
    shuffled = canary_answers(answers, kind="shuffled", seed=seed)
    assert sorted(shuffled.values()) == sorted(answers.values())
    assert all(shuffled[number] != answers[number] for number in answers)
    assert shuffled == canary_answers(answers, kind="shuffled", seed=seed)


def test_shuffled_answers_fit_the_number_of_turns():
    shuffled = canary_answers(REAL, kind="shuffled", seed=1)
    assert {question: len(turns) for question, turns in shuffled.items()} == {1: 2, 2: 2, 3: 1}
    with pytest.raises(DataError, match="1 questions to shuffle"):
        canary_answers({1: ("a",)}, kind="shuffled", seed=0)


def test_canary_figure_known_answer():
    """Below on 2 of 3: question 3 ties; 4 has the lowest real score, 5 no canary score."""
    real = {1: 8.0, 2: 6.0, 3: 5.0, 4: 1.0, 5: 9.0}
    figure = canary_figure(real, {1: 1.0, 2: 3.0, 3: 5.0, 4: 1.0}, kind="empty", seed=0)
    assert (figure.num_questions, figure.num_untold, figure.is_caught) == (3, 2, False)
    assert figure.caught.mean == pytest.approx(2 / 3)
    assert figure.difference.difference.mean == pytest.approx(10 / 3)
    with pytest.raises(GateError, match="empty on 67 % of 3"):
        require_caught([figure])
    assert canary_figure(real, {1: 1, 2: 3, 3: 5}, kind="empty", seed=0, least_share=0.6).is_caught


def test_a_sound_judge_passes():
    figure = canary_figure({1: 8.0, 2: 6.0}, {1: 1.0, 2: 1.0}, kind="constant", seed=0)
    require_caught([figure])
    assert figure.is_caught


def test_canaries_need_scores():
    with pytest.raises(DataError, match="canary empty: 1 questions can tell"):
        canary_figure({1: 8.0, 2: 1.0}, {1: 1.0, 2: 1.0}, kind="empty", seed=0)


def test_answers_that_hold_a_verdict_are_found():
    answers = {
        1: ["fine", "my rating: [[10]]"],
        2: ["array[0] = x[[i]]"],
        3: ["[[A]]"],
        4: ["[[A>>B]]"],
        5: ["[[9, 1]]"],
    }
    assert answers_with_verdicts(answers) == [1, 3, 4, 5]
