import pytest

from distill.errors import DataError
from eval.mt_bench.checker_agreement import rightness, score_check, share_ranked, winner_check
from eval.mt_bench.questions import Question, embedded_questions
from eval.mt_bench.strict import KeyVerdict
from eval.mt_bench.strict_pair import PairVerdict

RIGHT = {("a", 1, 1): True, ("b", 1, 1): False, ("a", 2, 1): True, ("b", 2, 1): True, ("b", 3, 1): False}


def scored(model: str, question: int, score: float | None) -> KeyVerdict:
    status = "ok" if score is not None else "unscored"
    return KeyVerdict("judge", model, question, 1, status, "rule", score, 1, 0, is_stored_as_failed=False)


def compared(question: int, winner: str | None) -> PairVerdict:
    games = ("tie", "tie")
    return PairVerdict(
        "judge", "a", "b", question, 1, winner, games, is_consistent=True, is_ambiguous=False, num_rows=1
    )


def test_ranked_is_the_share_of_pairs_in_order():
    """Of 2 x 2 pairs (3, 1), (3, 2), (2, 1) stand in order and (2, 2) is a tie."""
    assert share_ranked([3.0, 2.0], [1.0, 2.0]) == 3.5 / 4


def test_scores_are_held_against_the_checker_and_canaries_left_out():
    """Scores 9 and 4 of right answers, 5 and 2 of wrong: 3 of 4 pairs in order; `right` is said of 9 alone.

    Three of four agree; by chance 1/4 * 1/2 + 3/4 * 1/2 = 1/2 would, so that kappa is 1/2.
    """
    verdicts = [scored("a", 1, 9.0), scored("b", 1, 5.0), scored("b", 2, 4.0), scored("b", 3, 2.0)]
    extra = [scored("a", 2, None), scored("canary-empty-of-a", 1, 10.0)]
    found = score_check("judge", verdicts + extra, RIGHT)
    assert (found.num_answers, found.num_right) == (4, 2)
    assert (found.mean_of_right, found.mean_of_wrong, found.ranked, found.kappa) == (6.5, 3.5, 0.75, 0.5)


def test_winners_are_held_against_the_checker():
    """One pair is decided, by which no interval can be told; both verdicts are the checker's."""
    found = winner_check("judge", [compared(1, "first"), compared(2, "tie")], RIGHT, seed=0)
    assert (found.num_pairs, found.num_decided, found.right_wins, found.kappa) == (2, 1, None, 1.0)


def test_the_checker_knows_references_as_right():
    questions = embedded_questions()[:3]
    answers = {"r": {q.question_id: q.reference for q in questions}, "w": {q.question_id: ("", "") for q in questions}}
    found = rightness(questions, answers)
    assert all(is_right == (model == "r") for (model, _, _), is_right in found.items())
    assert len(found) == 12


def test_a_question_without_a_checker_is_refused():
    with pytest.raises(DataError, match="question 1 names no checker"):
        rightness([Question(1, "writing", ("hello",))], {})
