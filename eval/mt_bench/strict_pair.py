"""Pairwise verdicts when none is dropped: each game's text is read again, errors are counted and bound the win rate."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from eval.mt_bench.judgments import GameWinner, PairJudgment, stored_winner
from eval.mt_bench.questions import Question
from eval.mt_bench.strict import require_one_answer
from eval.mt_bench.verdicts import TIE_DELTA, read_score, read_winner

PairKey = tuple[str, str, str, int, int]
Value = TypeVar("Value")


@dataclass(frozen=True)
class PairVerdict:
    """One comparison, its models in the order of their names: `winner` is None where a game has no verdict.

    `games` are the winners, `model_1` being `first`, with `first` in slot A and then in slot B, of the last repeat
    that has both;
    games that differ are a tie, repeats that differ are, too, and both are not `is_consistent`.
    """

    judge: str
    first: str
    second: str
    question_id: int
    turn: int
    winner: Literal["first", "second", "tie"] | None
    games: tuple[GameWinner, GameWinner]
    is_consistent: bool
    is_ambiguous: bool
    num_rows: int


@dataclass(frozen=True)
class StrictWinRate:
    """A model's comparisons under one judge, nothing dropped.

    `num_inconsistent` of the ties come from games or repeats that differ; `num_ambiguous` comparisons hold a text
    with several labels. `lower` and `upper` bound the rate: all open ones lost, or won.
    """

    judge: str
    model: str
    num_wins: int
    num_ties: int
    num_losses: int
    num_errors: int
    num_missing: int
    num_inconsistent: int
    num_ambiguous: int

    @property
    def num_decided(self) -> int:
        """Comparisons that count in the rate."""
        return self.num_wins + self.num_ties + self.num_losses

    @property
    def num_expected(self) -> int:
        """Comparisons there should be."""
        return self.num_decided + self.num_errors + self.num_missing

    @property
    def failure_rate(self) -> float:
        """Errors and missing comparisons over those expected, in [0, 1]."""
        return (self.num_errors + self.num_missing) / self.num_expected

    @property
    def win_rate_adjusted(self) -> float | None:
        """Wins and half the ties over the decided, in [0, 1]; None where none is decided."""
        return (self.num_wins + 0.5 * self.num_ties) / self.num_decided if self.num_decided else None

    @property
    def lower(self) -> float:
        """The rate if every open comparison were lost."""
        return (self.num_wins + 0.5 * self.num_ties) / self.num_expected

    @property
    def upper(self) -> float:
        """The rate if every open comparison were won."""
        return (self.num_wins + 0.5 * self.num_ties + self.num_errors + self.num_missing) / self.num_expected

    @property
    def failure_text(self) -> str:
        """The failures in words."""
        rate = "no rate" if self.win_rate_adjusted is None else f"{self.win_rate_adjusted:.3f} over the rest"
        failed = f"{self.num_errors + self.num_missing} of {self.num_expected} comparisons have no verdict"
        return f"{failed}; {rate}, between {self.lower:.3f} and {self.upper:.3f} if they had one"


def pair_verdicts(
    rows: Iterable[PairJudgment], *, output_formats: Mapping[str, str] | None = None
) -> list[PairVerdict]:
    """Every comparison's verdict, read from the judges' texts, in order of judge, models, question and turn.

    Args:
        rows: of a `<judge>_pair.jsonl`; a row without a turn is of turn 1.
        output_formats: of the judge prompts by name; `[[A]]` where a name is not given.

    Raises:
        DataError: one comparison holds judgments of two different answers.
    """
    by_key: dict[PairKey, list[PairJudgment]] = defaultdict(list)
    for row in rows:
        first, second = sorted((row.model_1, row.model_2))
        by_key[row.judge_name, first, second, row.question_id, row.turn or 1].append(row)
    require_one_answer(
        (key[0], f"{key[1]} against {key[2]}", f"question {key[3]}, turn {key[4]}", prompts)
        for key, repeats in by_key.items()
        for prompts in zip(*(_in_order(row, row.g1_user_prompt, row.g2_user_prompt) for row in repeats), strict=True)
    )
    return [_pair_verdict(key, by_key[key], output_formats or {}) for key in sorted(by_key)]


def strict_pair(
    rows: Iterable[PairJudgment],
    *,
    baseline: str | None = None,
    questions: Sequence[Question] = (),
    output_formats: Mapping[str, str] | None = None,
) -> list[StrictWinRate]:
    """Each model's wins, ties, losses and errors under each judge, best rate first within a judge.

    Args:
        rows: of a `<judge>_pair.jsonl`.
        baseline: only comparisons with it count, and its own line is left out; None: all pairs.
        questions: what was to be compared, every turn of each, by every pair that occurs; without them nothing can
            be missing.
        output_formats: of the judge prompts by name; `[[A]]` where a name is not given.

    Raises:
        DataError: one comparison holds judgments of two different answers.
    """
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    given: dict[tuple[str, str, str], set[tuple[int, int]]] = defaultdict(set)
    for verdict in pair_verdicts(rows, output_formats=output_formats):
        if baseline is not None and baseline not in (verdict.first, verdict.second):
            continue
        given[verdict.judge, verdict.first, verdict.second].add((verdict.question_id, verdict.turn))
        for side, model in (("first", verdict.first), ("second", verdict.second)):
            count = counts[verdict.judge, model]
            count[_outcome(verdict.winner, side)] += 1
            count["inconsistent"] += not verdict.is_consistent
            count["ambiguous"] += verdict.is_ambiguous
    expected = {(question.question_id, turn + 1) for question in questions for turn in range(len(question.turns))}
    for (judge, first, second), keys in given.items():
        for model in (first, second):
            counts[judge, model]["missing"] += len(expected - keys)
    names = ("win", "tie", "loss", "error", "missing", "inconsistent", "ambiguous")
    rates = [
        StrictWinRate(judge, model, *(count[name] for name in names))
        for (judge, model), count in counts.items()
        if model != baseline
    ]
    return sorted(rates, key=lambda rate: (rate.judge, -(rate.win_rate_adjusted or 0.0), rate.model))


def _pair_verdict(key: PairKey, rows: Sequence[PairJudgment], output_formats: Mapping[str, str]) -> PairVerdict:
    read = [_games(row, output_formats) for row in rows]
    decided = [games for games, _ in read if "error" not in games]
    winners = {_winner(games) for games in decided}
    games = (decided or [games for games, _ in read])[-1]
    return PairVerdict(
        *key,
        winner=None if not decided else winners.pop() if len(winners) == 1 else "tie",
        games=games,
        is_consistent=len(set(decided)) <= 1 and (not decided or games[0] == games[1]),
        is_ambiguous=any(is_ambiguous for _, is_ambiguous in read),
        num_rows=len(rows),
    )


def _games(row: PairJudgment, output_formats: Mapping[str, str]) -> tuple[tuple[GameWinner, GameWinner], bool]:
    """Winners of the game with the first name in slot A, then in slot B, `model_1` being the first name."""
    texts = (row.g1_judgment, row.g2_judgment)
    if None in texts:
        return ("error", "error"), False
    if row.m1_score is not None or row.m2_score is not None:
        scores = [read_score(text or "") for text in texts]
        winners = (_winner_by_scores(scores[0].score, scores[1].score),) * 2
    else:
        prompt = row.judge[1] if row.judge and len(row.judge) > 1 else ""
        scores = [read_winner(text or "", output_format=output_formats.get(prompt, "[[A]]")) for text in texts]
        winners = (stored_winner(scores[0], game=1), stored_winner(scores[1], game=2))
    first, second = _in_order(row, *winners)
    is_ambiguous = any(verdict.status == "ambiguous" for verdict in scores)
    if row.model_1 <= row.model_2:
        return (first, second), is_ambiguous
    swapped: dict[GameWinner, GameWinner] = {"model_1": "model_2", "model_2": "model_1", "tie": "tie", "error": "error"}
    return (swapped[first], swapped[second]), is_ambiguous


def _winner_by_scores(first: float | None, second: float | None) -> GameWinner:
    if first is None or second is None:
        return "error"
    if abs(first - second) <= TIE_DELTA:
        return "tie"
    return "model_1" if first > second else "model_2"


def _in_order(row: PairJudgment, game_1: Value, game_2: Value) -> tuple[Value, Value]:
    """What belongs to the game that shows the first name first, then what belongs to the other."""
    return (game_1, game_2) if row.model_1 <= row.model_2 else (game_2, game_1)


def _winner(games: tuple[GameWinner, GameWinner]) -> Literal["first", "second", "tie"]:
    if games[0] == "tie" or games[0] != games[1]:
        return "tie"
    return "first" if games[0] == "model_1" else "second"


def _outcome(winner: str | None, side: str) -> str:
    if winner is None:
        return "error"
    return "tie" if winner == "tie" else "win" if winner == side else "loss"
