"""Judges' verdicts in FastChat's files `model_judgment/<judge>_single.jsonl` and `<judge>_pair.jsonl`.

Needed is what FastChat's own readers need; every other field may be missing and then stays missing when the row is
written again. Fields nobody knows are kept in `extra`.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from distill.errors import DataError
from distill.files import read_jsonl, write_jsonl
from eval.mt_bench.verdicts import Verdict

FAILED_SCORE = -1

GameWinner = Literal["model_1", "model_2", "tie", "error"]
OldWinner = Literal["model_1", "model_2", "tie", "inconsistent", "error"]

Judgment = TypeVar("Judgment")


@dataclass(frozen=True)
class SingleJudgment:
    """One answer scored by a judge; `score` is -1 where FastChat's reading failed, None where the file says null.

    `judge` is (model, name of the prompt); `user_prompt` what the judge was shown; `turn` counts from 1; `tstamp` is
    in seconds since 1970.
    """

    question_id: int
    model: str
    judge: tuple[str, ...] | None
    user_prompt: str | None
    judgment: str | None
    score: int | float | None
    turn: int
    tstamp: float | None
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def judge_name(self) -> str:
        """The judge's model, or nothing where the row does not say."""
        return self.judge[0] if self.judge else ""

    def to_json(self) -> dict[str, object]:
        """The row of FastChat's file."""
        row: dict[str, object] = {
            "question_id": self.question_id,
            "model": self.model,
            "judge": None if self.judge is None else list(self.judge),
            "user_prompt": self.user_prompt,
            "judgment": self.judgment,
            "score": self.score,
            "turn": self.turn,
            "tstamp": self.tstamp,
        }
        return {name: value for name, value in row.items() if value is not None or name == "score"} | dict(self.extra)


@dataclass(frozen=True)
class PairJudgment:
    """Two answers compared by a judge in both orders: game 1 shows model 1 first, game 2 model 2.

    Rows of scores compared (`m1_score`, `m2_score`) have no turn; old rows have `winner` in place of the games'.
    """

    question_id: int
    model_1: str
    model_2: str
    g1_winner: GameWinner | None
    g2_winner: GameWinner | None
    judge: tuple[str, ...] | None
    g1_user_prompt: str | None
    g1_judgment: str | None
    g2_user_prompt: str | None
    g2_judgment: str | None
    turn: int | None
    tstamp: float | None
    winner: OldWinner | None = None
    m1_score: int | float | None = None
    m2_score: int | float | None = None
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def judge_name(self) -> str:
        """The judge's model, or nothing where the row does not say."""
        return self.judge[0] if self.judge else ""

    @property
    def games(self) -> tuple[GameWinner, GameWinner]:
        """The stored winners of both games; an old `inconsistent` is a win in each game's first slot."""
        if self.g1_winner is not None and self.g2_winner is not None:
            return self.g1_winner, self.g2_winner
        if self.winner == "inconsistent":
            return "model_1", "model_2"
        return self.winner or "error", self.winner or "error"

    def to_json(self) -> dict[str, object]:
        """The row of FastChat's file."""
        row: dict[str, object] = {
            "question_id": self.question_id,
            "model_1": self.model_1,
            "model_2": self.model_2,
            "winner": self.winner,
            "g1_winner": self.g1_winner,
            "g2_winner": self.g2_winner,
            "judge": None if self.judge is None else list(self.judge),
            "g1_user_prompt": self.g1_user_prompt,
            "g1_judgment": self.g1_judgment,
            "g2_user_prompt": self.g2_user_prompt,
            "g2_judgment": self.g2_judgment,
            "m1_score": self.m1_score,
            "m2_score": self.m2_score,
            "turn": self.turn,
            "tstamp": self.tstamp,
        }
        return {name: value for name, value in row.items() if value is not None} | dict(self.extra)


def stored_score(verdict: Verdict) -> int | float:
    """The number FastChat's file holds for a verdict: whole ones as such, -1 where there is none."""
    if verdict.score is None:
        return FAILED_SCORE
    return int(verdict.score) if verdict.score.is_integer() else verdict.score


def stored_winner(verdict: Verdict, *, game: Literal[1, 2]) -> GameWinner:
    """The word FastChat's file holds for a game's verdict; in game 2 slot A shows model 2."""
    if verdict.winner is None:
        return "error"
    if verdict.winner == "tie":
        return "tie"
    return "model_1" if (verdict.winner == "A") == (game == 1) else "model_2"


def read_single(path: Path) -> list[SingleJudgment]:
    """Reads a `<judge>_single.jsonl`, in the file's order, repeated rows too.

    Raises:
        DataError: the file is missing or empty, or a row is no judgment; names file and line.
    """
    rows = [_single_from(_Row(row, f"{path}:{number}")) for number, row in read_jsonl(path)]
    return _not_empty(rows, path)


def read_pair(path: Path) -> list[PairJudgment]:
    """Reads a `<judge>_pair.jsonl`, in the file's order, repeated rows too.

    Raises:
        DataError: the file is missing or empty, or a row is no judgment; names file and line.
    """
    rows = [_pair_from(_Row(row, f"{path}:{number}")) for number, row in read_jsonl(path)]
    return _not_empty(rows, path)


def write_single(path: Path, rows: Iterable[SingleJudgment]) -> None:
    """Writes the whole file in FastChat's cleaned order: model, question, turn."""
    ordered = sorted(rows, key=lambda row: (row.model, row.question_id, row.turn, row.judge or ()))
    write_jsonl(path, (row.to_json() for row in ordered))


def write_pair(path: Path, rows: Iterable[PairJudgment]) -> None:
    """Writes the whole file in FastChat's cleaned order: model 1, question, turn; then model 2."""
    ordered = sorted(rows, key=lambda row: (row.model_1, row.question_id, row.turn or 0, row.model_2, row.judge or ()))
    write_jsonl(path, (row.to_json() for row in ordered))


@dataclass(frozen=True)
class _Row:
    """A row with the words that lead every message about it."""

    fields: Mapping[str, object]
    where: str

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        if not isinstance(value, str) or not value:
            raise self.wrong(name, "text was expected")
        return value

    def optional_text(self, name: str) -> str | None:
        value = self.fields.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "text was expected")
        return value

    def whole(self, name: str) -> int:
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "a whole number was expected")
        return value

    def number(self, name: str) -> int | float | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self.wrong(name, "a finite number was expected")
        return value

    def judge(self) -> tuple[str, ...] | None:
        value = self.fields.get("judge")
        if value is None:
            return None
        if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
            raise self.wrong("judge", "a list of the judge's model and its prompt was expected")
        return tuple(value)

    def game_winner(self, name: str) -> GameWinner | None:
        value = self.fields.get(name)
        if value is not None and value not in get_args(GameWinner):
            raise self.wrong(name, f"known are {', '.join(get_args(GameWinner))}")
        return value  # type: ignore[return-value]  # one of the literals, just checked

    def old_winner(self) -> OldWinner | None:
        value = self.fields.get("winner")
        if value is not None and value not in get_args(OldWinner):
            raise self.wrong("winner", f"known are {', '.join(get_args(OldWinner))}")
        return value  # type: ignore[return-value]  # one of the literals, just checked

    def rest(self, known: Iterable[str]) -> dict[str, object]:
        return {name: value for name, value in self.fields.items() if name not in known}

    def wrong(self, name: str, expected: str) -> DataError:
        value = f"is {self.fields[name]!r:.60}" if name in self.fields else "is missing"
        return DataError(f"{self.where}: {name} {value}", why=expected, fix="mend or delete the line")


def _single_from(row: _Row) -> SingleJudgment:
    if "score" not in row.fields:
        raise row.wrong("score", "a number was expected, -1 where the judge gave none")
    known = [name for name in SingleJudgment.__dataclass_fields__ if name != "extra"]
    return SingleJudgment(
        question_id=row.whole("question_id"),
        model=row.text("model"),
        judge=row.judge(),
        user_prompt=row.optional_text("user_prompt"),
        judgment=row.optional_text("judgment"),
        score=row.number("score"),
        turn=row.whole("turn"),
        tstamp=row.number("tstamp"),
        extra=row.rest(known),
    )


def _pair_from(row: _Row) -> PairJudgment:
    if row.fields.get("winner") is None and None in (row.fields.get("g1_winner"), row.fields.get("g2_winner")):
        raise row.wrong("g1_winner", "the winners of both games were expected, or winner in an old file")
    known = [name for name in PairJudgment.__dataclass_fields__ if name != "extra"]
    return PairJudgment(
        question_id=row.whole("question_id"),
        model_1=row.text("model_1"),
        model_2=row.text("model_2"),
        g1_winner=row.game_winner("g1_winner"),
        g2_winner=row.game_winner("g2_winner"),
        judge=row.judge(),
        g1_user_prompt=row.optional_text("g1_user_prompt"),
        g1_judgment=row.optional_text("g1_judgment"),
        g2_user_prompt=row.optional_text("g2_user_prompt"),
        g2_judgment=row.optional_text("g2_judgment"),
        turn=None if row.fields.get("turn") is None else row.whole("turn"),
        tstamp=row.number("tstamp"),
        winner=row.old_winner(),
        m1_score=row.number("m1_score"),
        m2_score=row.number("m2_score"),
        extra=row.rest(known),
    )


def _not_empty(rows: list[Judgment], path: Path) -> list[Judgment]:
    if not rows:
        raise DataError(f"{path} holds no judgment", why="there is nothing to show", fix="run the judge first")
    return rows
