"""Answers that no sound judge may like: empty, constant and shuffled ones, and figures of how often it did."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from distill.errors import DataError, GateError
from eval.mt_bench.verdicts import FIVE_LEVELS, LABEL, SCORE, TWO_SCORES
from eval.paired import studentised_difference
from eval.scores import Interval, PairedDifference, proportion_interval

CanaryKind = Literal["empty", "constant", "shuffled"]
CANARY_KINDS: tuple[CanaryKind, ...] = ("empty", "constant", "shuffled")
CONSTANT_ANSWER = "Thank you for your question. This is an important topic with many aspects, and the answer depends."
LEAST_SHARE_CAUGHT = 0.9

Turns = tuple[str, ...]


@dataclass(frozen=True)
class CanaryFigure:
    """How one kind of worthless answers fared against the real ones.

    Attributes:
        num_questions: questions on which both were scored and the real answer stands above the scale's lowest score.
        num_untold: the other questions: one of the two unscored, or nothing left below the real answer.
        caught: share of questions on which the canary scored strictly below, with Wilson's interval.
        difference: real minus canary, paired by question.
        is_caught: the share reaches the threshold.
    """

    kind: str
    num_questions: int
    num_untold: int
    caught: Interval
    difference: PairedDifference
    is_caught: bool


def canary_answers(answers: Mapping[int, Turns], *, kind: CanaryKind, seed: int) -> dict[int, Turns]:
    """Worthless answers to the same questions, with as many turns.

    Args:
        answers: the real ones, by question.
        kind: `shuffled` gives each question another question's answers; of other lengths, cut or repeated to fit.
        seed: of the shuffle.

    Raises:
        DataError: fewer than two questions to shuffle.
    """
    if kind != "shuffled":
        text = "" if kind == "empty" else CONSTANT_ANSWER
        return {question: (text,) * len(turns) for question, turns in answers.items()}
    if len(answers) < 2:
        raise DataError(f"{len(answers)} questions to shuffle", why="each needs another question's answer")
    order = sorted(answers)
    random.Random(seed).shuffle(order)
    given = {}
    for question, other in zip(order, order[1:] + order[:1], strict=True):
        turns = answers[other]
        given[question] = tuple(turns[number % len(turns)] for number in range(len(answers[question])))
    return {question: given[question] for question in answers}


def canary_figure(
    real: Mapping[int, float],
    canary: Mapping[int, float],
    *,
    kind: str,
    seed: int,
    scale: tuple[float, float] = (1.0, 10.0),
    least_share: float = LEAST_SHARE_CAUGHT,
) -> CanaryFigure:
    """Compares the scores of real answers and of canaries, question by question.

    Args:
        real: mean score of each question's real answers; unscored ones left out.
        canary: the same of the canaries.
        kind: what the canaries are, for the report.
        seed: of the interval.
        scale: lowest and highest score.
        least_share: of questions on which the canary must score lower.

    Raises:
        DataError: fewer than two questions can tell.
    """
    told = [question for question in real if question in canary and real[question] > scale[0]]
    if len(told) < 2:
        raise DataError(
            f"canary {kind}: {len(told)} questions can tell",
            why="at least two need a score for the canary and a real score above the lowest",
            fix="judge the canaries too",
        )
    num_caught = sum(canary[question] < real[question] for question in told)
    return CanaryFigure(
        kind=kind,
        num_questions=len(told),
        num_untold=len(real.keys() | canary.keys()) - len(told),
        caught=proportion_interval(num_caught, len(told)),
        difference=studentised_difference(
            [real[question] for question in told], [canary[question] for question in told], scale=scale, seed=seed
        ),
        is_caught=num_caught >= least_share * len(told),
    )


def require_caught(figures: Sequence[CanaryFigure]) -> None:
    """Refuses a judge that liked worthless answers.

    Raises:
        GateError: some kind was not caught; all such kinds are named.
    """
    missed = [figure for figure in figures if not figure.is_caught]
    if missed:
        told = ", ".join(f"{f.kind} on {100 * f.caught.mean:.0f} % of {f.num_questions}" for f in missed)
        raise GateError(
            f"canaries scored below the real answers too seldom: {told}",
            why="a judge that does not tell worthless answers from real ones measures nothing",
            fix="use another judge",
        )


def answers_with_verdicts(answers: Mapping[int, Iterable[str]]) -> list[int]:
    """Questions with an answer that itself holds a verdict such as `[[10]]` or `[[A]]`, which a judge may repeat."""
    patterns = (SCORE, LABEL, FIVE_LEVELS, TWO_SCORES)
    return [
        question
        for question, turns in answers.items()
        if any(pattern.search(turn) is not None for turn in turns for pattern in patterns)
    ]
