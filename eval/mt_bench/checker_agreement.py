"""How far a judge agrees with the checker, which knows from the facts of a question whether an answer is right."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import Field
from scipy.stats import rankdata

from distill.errors import DataError
from distill.settings import Settings
from eval.checkers import checker_for
from eval.mt_bench.board import is_canary
from eval.mt_bench.questions import Question
from eval.mt_bench.strict import KeyVerdict
from eval.mt_bench.strict_pair import PairVerdict
from eval.mt_bench.verdicts import HIGHEST_SCORE, LOWEST_SCORE
from eval.reliability import cohen_kappa
from eval.scores import Interval, mean_interval

MIDDLE = (LOWEST_SCORE + HIGHEST_SCORE) / 2

Rightness = Mapping[tuple[str, int, int], bool]
"""By model, question and turn (from 1)."""


class ScoreCheck(Settings):
    """A judge's single scores against the checker; canaries are left out."""

    judge: str
    num_answers: int
    num_right: int = Field(description="by the checker")
    mean_of_right: float | None = Field(description="points; None where no answer is right")
    mean_of_wrong: float | None = Field(description="points; None where no answer is wrong")
    ranked: float | None = Field(description="share of all pairs of a right and a wrong answer in which the right one")
    kappa: float = Field(description="Cohen's, a score above the middle of the scale being `right`")


class WinnerCheck(Settings):
    """A judge's winners against the checker's: both orders together, a tie where they disagree."""

    judge: str
    num_pairs: int
    num_decided: int = Field(description="pairs of which the checker calls one answer right and the other wrong")
    right_wins: Interval | None = Field(description="share of these that the right one won, ties half, by question")
    kappa: float = Field(description="Cohen's over first, tie and second; the checker's tie: both right, or both wrong")


def rightness(questions: Sequence[Question], answers: Mapping[str, Mapping[int, tuple[str, ...]]]) -> Rightness:
    """The checker's verdict on every answer to the questions.

    Args:
        questions: with the facts that their checker needs.
        answers: texts of the turns by model and question.

    Raises:
        DataError: a question names no checker.
    """
    found = {}
    for question in questions:
        conversation = question.to_conversation()
        checker = checker_for(conversation)
        if checker is None:
            raise DataError(f"question {question.question_id} names no checker", why="nothing says what is right")
        for model, by_question in answers.items():
            for turn, text in enumerate(by_question.get(question.question_id, ())):
                is_right = checker.check(conversation, turn, text).is_right
                found[model, question.question_id, turn + 1] = is_right
    return found


def score_check(judge: str, verdicts: Sequence[KeyVerdict], right: Rightness) -> ScoreCheck:
    """Holds the scores of real answers against the checker.

    Raises:
        DataError: no answer has a score.
    """
    given = [(v.score, right[v.model, v.question_id, v.turn]) for v in _real(verdicts) if v.score is not None]
    good, bad = ([score for score, is_right in given if is_right is wanted] for wanted in (True, False))
    return ScoreCheck(
        judge=judge,
        num_answers=len(given),
        num_right=len(good),
        mean_of_right=float(np.mean(good)) if good else None,
        mean_of_wrong=float(np.mean(bad)) if bad else None,
        ranked=share_ranked(good, bad) if good and bad else None,
        kappa=cohen_kappa([score > MIDDLE for score, _ in given], [is_right for _, is_right in given]),
    )


def winner_check(judge: str, verdicts: Sequence[PairVerdict], right: Rightness, *, seed: int) -> WinnerCheck:
    """Holds the winners against the checker.

    Raises:
        DataError: no pair has a verdict.
    """
    given, wanted = [], []
    points: dict[int, list[float]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.winner is None or is_canary(verdict.first) or is_canary(verdict.second):
            continue
        first, second = (right[name, verdict.question_id, verdict.turn] for name in (verdict.first, verdict.second))
        better = "tie" if first == second else "first" if first else "second"
        given.append(verdict.winner)
        wanted.append(better)
        if better != "tie":
            points[verdict.question_id].append(0.5 if verdict.winner == "tie" else float(verdict.winner == better))
    return WinnerCheck(
        judge=judge,
        num_pairs=len(given),
        num_decided=sum(map(len, points.values())),
        right_wins=mean_interval(list(points.values()), seed=seed) if len(points) > 1 else None,
        kappa=cohen_kappa(given, wanted),
    )


def share_ranked(high: Sequence[float], low: Sequence[float]) -> float:
    r"""Share of pairs in which the value of `high` is above that of `low`, equal ones half.

    .. math:: U / (n m), \quad U = R - n (n + 1) / 2

    with R the sum of the ranks of `high`. It is the area under the ROC curve; 0.5 is chance.

    Source:
        Mann & Whitney 1947, Ann. Math. Stat. 18(1).
    """
    ranks = rankdata([*high, *low])[: len(high)]
    return float((ranks.sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low)))


def _real(verdicts: Sequence[KeyVerdict]) -> list[KeyVerdict]:
    return [verdict for verdict in verdicts if not is_canary(verdict.model)]
