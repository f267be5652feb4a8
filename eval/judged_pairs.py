"""Pairs judged in both orders: who won, whether the orders agree, which slot the judge leant to, how long both were."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from distill.errors import DataError
from eval.mt_bench.judgments import GameWinner, PairJudgment

Combination = Literal["conservative", "averaged"]
AnswerKey = tuple[str, int, int]
"""Model, question, turn."""


@dataclass(frozen=True)
class JudgedPair:
    """Two answers and a judge's verdicts in both orders; game 1 shows model 1 in the first slot, game 2 model 2."""

    question_id: int
    turn: int | None
    judge: str
    model_1: str
    model_2: str
    games: tuple[GameWinner, GameWinner]
    lengths: tuple[int, int] | None = None

    @property
    def is_scored(self) -> bool:
        """Both games have a verdict."""
        return "error" not in self.games

    @property
    def is_consistent(self) -> bool:
        """Both orders give the same verdict, a tie included."""
        return self.games[0] == self.games[1]

    @property
    def first_slots(self) -> tuple[float, float]:
        """Of each game: 1 where the first slot won, 0 where the second did, 0.5 for a tie."""
        slots = {"model_1": (1.0, 0.0), "model_2": (0.0, 1.0), "tie": (0.5, 0.5)}
        return slots[self.games[0]][0], slots[self.games[1]][1]

    def outcome(self, combination: Combination = "conservative") -> float:
        """Of model 1: 1 for a win, 0.5 for a tie, 0 for a loss.

        Args:
            combination: `conservative`: a tie unless both orders agree; `averaged`: the mean of both.
        """
        values = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5}
        first, second = (values[game] for game in self.games)
        return (first + second) / 2.0 if combination == "averaged" or first == second else 0.5

    def outcome_of(self, model: str, combination: Combination = "conservative") -> float:
        """The outcome of one of the two models.

        Raises:
            DataError: the model is not in the pair.
        """
        if model not in (self.model_1, self.model_2):
            raise DataError(f"{model} is not in the pair {self.model_1}, {self.model_2}", fix="name one of the two")
        return self.outcome(combination) if model == self.model_1 else 1.0 - self.outcome(combination)


def judged_pairs(
    rows: Iterable[PairJudgment], *, lengths: Mapping[AnswerKey, int] | None = None
) -> dict[str, list[JudgedPair]]:
    """Judgments as pairs, by judge; a row that stands twice counts once, the last.

    Args:
        rows: of FastChat's pair file.
        lengths: characters or tokens of each answer; pairs of unknown lengths have none.
    """
    known = lengths or {}
    pairs: dict[tuple[object, ...], JudgedPair] = {}
    for row in rows:
        first, second = (known.get((model, row.question_id, row.turn or 0)) for model in (row.model_1, row.model_2))
        key = (row.judge_name, row.question_id, row.turn, row.model_1, row.model_2)
        pairs[key] = JudgedPair(
            question_id=row.question_id,
            turn=row.turn,
            judge=row.judge_name,
            model_1=row.model_1,
            model_2=row.model_2,
            games=row.games,
            lengths=None if first is None or second is None else (first, second),
        )
    by_judge: dict[str, list[JudgedPair]] = {}
    for pair in pairs.values():
        by_judge.setdefault(pair.judge, []).append(pair)
    return by_judge


def by_question(pairs: Sequence[JudgedPair]) -> list[list[JudgedPair]]:
    """The pairs of each question, in order of appearance."""
    groups: dict[int, list[JudgedPair]] = {}
    for pair in pairs:
        groups.setdefault(pair.question_id, []).append(pair)
    return list(groups.values())
