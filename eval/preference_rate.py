"""Preference rate of a student against its teacher, and the paired comparison of two students.

`preference_rate` lets an objective checker decide each question, its turns taken together;
`judged_preference_rate` a judge, turn by turn, in both orders.

Source:
    The signed preference rate of daDPO, arXiv:2506.15717: share of wins less share of losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distill.errors import DataError
from eval.judged_pairs import Combination, JudgedPair
from eval.length_control import LengthControlled, length_controlled
from eval.scores import Interval, PairedDifference, mean_interval, paired_difference
from eval.win_rate import WinRate, win_rate

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


@dataclass(frozen=True)
class JudgedPreference:
    """A judge's preference rate of a student against its teacher.

    Attributes:
        outcomes: wins, ties, losses over scored turns; `signed_rate` is the preference rate with its interval.
        combination: how the two orders make one verdict.
        num_unscored: turns without a verdict in both orders; they are in none of the figures.
        lowest, highest: the rate, had the student lost or won all unscored turns.
        length_controlled: LC-minimal win rate; None where the length of some answer is not known.
        by_source: the outcomes of each source of prompts with at least two questions.
    """

    outcomes: WinRate
    combination: Combination
    num_unscored: int
    lowest: float
    highest: float
    length_controlled: LengthControlled | None
    by_source: dict[str, WinRate]


def judged_preference_rate(
    pairs: Sequence[JudgedPair],
    *,
    student: str,
    teacher: str,
    seed: int,
    combination: Combination = "conservative",
    sources: Mapping[int, str] | None = None,
    num_resamples: int = 10_000,
    num_fits: int = 1_000,
) -> JudgedPreference:
    """(wins - losses) / turns by a judge's verdicts in both orders, resampled by question.

    Args:
        pairs: of one judge; those of other models are left out.
        student: its name in the pairs.
        teacher: the other's.
        seed: of the bootstraps.
        combination: `conservative`: a tie unless both orders agree; `averaged`: the mean of both.
        sources: where each question is from, for a breakdown.
        num_resamples: bootstrap means that the intervals are read from.
        num_fits: fits that the interval at equal lengths is read from.

    Raises:
        DataError: no pair of the two has a verdict in both orders, or fewer than two questions have.
    """
    own = [pair for pair in pairs if {pair.model_1, pair.model_2} == {student, teacher}]
    scored = [pair for pair in own if pair.is_scored]
    if not scored:
        raise DataError(
            f"{len(own)} pairs of {student} and {teacher}, none with a verdict in both orders",
            why="there is nothing to take a rate of",
            fix="judge the two against each other, or again with --retry-failed",
        )
    outcomes = [pair.outcome_of(student, combination) for pair in scored]
    questions = [pair.question_id for pair in scored]
    rate = win_rate(outcomes, clusters=questions, seed=seed, num_resamples=num_resamples)
    total, num_unscored = sum(2.0 * outcome - 1.0 for outcome in outcomes), len(own) - len(scored)
    by_source: dict[str, list[tuple[float, int]]] = {}
    for outcome, question in zip(outcomes, questions, strict=True):
        if sources is not None and question in sources:
            by_source.setdefault(sources[question], []).append((outcome, question))
    differences = [_longer_by(pair, student) for pair in scored]
    known = [difference for difference in differences if difference is not None]
    return JudgedPreference(
        outcomes=rate,
        combination=combination,
        num_unscored=num_unscored,
        lowest=(total - num_unscored) / len(own),
        highest=(total + num_unscored) / len(own),
        length_controlled=length_controlled(outcomes, known, clusters=questions, seed=seed, num_resamples=num_fits)
        if len(known) == len(scored)
        else None,
        by_source={
            name: win_rate(
                [outcome for outcome, _ in rows],
                clusters=[question for _, question in rows],
                seed=seed,
                num_resamples=num_resamples,
            )
            for name, rows in sorted(by_source.items())
            if len({question for _, question in rows}) > 1
        },
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


def _longer_by(pair: JudgedPair, student: str) -> int | None:
    """Length of the student's answer less the teacher's."""
    if pair.lengths is None:
        return None
    first, second = pair.lengths
    return first - second if pair.model_1 == student else second - first


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
