"""Preference rate of a student against its teacher, and the paired comparison of two students.

Source:
    The signed preference rate of daDPO, arXiv:2506.15717. Differs: an objective checker decides each question, its
    turns taken together, where the paper asks a language model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.errors import DataError
from eval.scores import Interval, PairedDifference, mean_interval, paired_difference

RightTurns = Sequence[Sequence[bool]]


@dataclass(frozen=True)
class PreferenceRate:
    """Questions won, tied and lost by the student, and (wins - losses) / questions with its interval."""

    num_wins: int
    num_ties: int
    num_losses: int
    rate: Interval


def preference_rate(student_right: RightTurns, teacher_right: RightTurns, *, seed: int) -> PreferenceRate:
    """(wins - losses) / questions; a win is a question on which the student has more turns right than the teacher.

    Args:
        student_right: for each question, which turns the student answered rightly.
        teacher_right: the teacher's, the same questions in the same order.
        seed: of the bootstrap over questions.

    Raises:
        DataError: the two do not hold the same questions, or there is none.
    """
    _same_questions(student_right, teacher_right)
    outcomes = [
        _sign(sum(student) - sum(teacher)) for student, teacher in zip(student_right, teacher_right, strict=True)
    ]
    return PreferenceRate(
        num_wins=outcomes.count(1),
        num_ties=outcomes.count(0),
        num_losses=outcomes.count(-1),
        rate=mean_interval([[float(outcome)] for outcome in outcomes], seed=seed),
    )


def accuracy_difference(first_right: RightTurns, second_right: RightTurns, *, seed: int) -> PairedDifference:
    """Accuracy of the first model minus the second's over the same turns, resampled by question.

    Raises:
        DataError: the two do not hold the same questions, or there is none.
    """
    _same_questions(first_right, second_right)
    clusters = [number for number, turns in enumerate(first_right) for _ in turns]
    first = [float(is_right) for turns in first_right for is_right in turns]
    second = [float(is_right) for turns in second_right for is_right in turns]
    return paired_difference(first, second, clusters=clusters, seed=seed)


def _same_questions(first: RightTurns, second: RightTurns) -> None:
    if len(first) != len(second):
        raise DataError(f"{len(first)} questions against {len(second)}", why="a paired comparison needs the same ones")
    if not first:
        raise DataError("no question to compare on", fix="evaluate on at least one checkable question")
    for number, (left, right) in enumerate(zip(first, second, strict=True)):
        if len(left) != len(right) or not left:
            raise DataError(f"question {number}: {len(left)} turns against {len(right)}", why="the turns must match")


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
