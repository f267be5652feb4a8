"""How often two kinds of judges agree on which of two answers is better: the protocol of MT-Bench's Table 5.

A vote is on (question, pair of models, turn). Every vote of one kind meets every vote of the other on the same key;
within one kind, every two votes of a key meet. Ties of every sort are one. Setup S1 counts all meetings, S2 only
those in which neither vote is a tie.

Source:
    Zheng et al. 2023, arXiv:2306.05685, sec. 4.2 and table 5; `compute_agreement.py` of FastChat's llm_judge.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from pathlib import Path
from typing import Literal

from distill.errors import DataError
from distill.files import read_jsonl, write_text

HUMAN, AUTHOR, GPT4_PAIR = "human", "author", "gpt4-pair"
PERSON = "human-"
"""Begins the name of a judge who is a person: `human-ann`."""

Choice = Literal["model_a", "model_b", "tie"]


@dataclass(frozen=True)
class Vote:
    """A judge's choice between two models' answers at a turn (from 1); `judge` is its name in the file."""

    judge: str
    model_a: str
    model_b: str
    question_id: int
    turn: int
    winner: Choice

    @property
    def kind(self) -> str:
        """`human` for experts and people of our sheets, `author`, `gpt4-pair`; any other judge is a kind of its own."""
        for start, kind in (("expert", HUMAN), ("author", AUTHOR), ("gpt4_pair", GPT4_PAIR)):
            if self.judge.startswith(start):
                return kind
        return HUMAN if is_person(self.judge) else self.judge

    @property
    def key(self) -> tuple[int, str, str, int]:
        """Question, both models in the order of their names, turn."""
        first, second = sorted((self.model_a, self.model_b))
        return self.question_id, first, second, self.turn

    @property
    def choice(self) -> Literal["first", "second", "tie"]:
        """The winner in the order of the models' names."""
        if self.winner == "tie":
            return "tie"
        return "first" if (self.winner == "model_a") == (self.model_a < self.model_b) else "second"

    def to_json(self) -> dict[str, object]:
        """The row of the public vote files, with FastChat's name of GPT-4's pairwise verdicts."""
        return {
            "question_id": self.question_id,
            "model_a": self.model_a,
            "model_b": self.model_b,
            "winner": self.winner,
            "judge": ["gpt-4", "pair-v2"] if self.kind == GPT4_PAIR else self.judge,
            "turn": self.turn,
        }


@dataclass(frozen=True)
class Agreement:
    """Meetings of two votes, and in how many both chose the same."""

    num_agree: int
    num_total: int

    @property
    def rate(self) -> float | None:
        """The share that agrees, in [0, 1]; None where no two votes meet."""
        return self.num_agree / self.num_total if self.num_total else None


@dataclass(frozen=True)
class WinRate:
    """A model's wins, a tie being half of one, over its votes."""

    wins: float
    num_votes: int

    @property
    def rate(self) -> float:
        """In [0, 1]."""
        return self.wins / self.num_votes


def is_person(judge: str) -> bool:
    """Whether a judge's name is a person's, `human-NAME`; such a judge sees each pair in one order only."""
    return judge == HUMAN or judge.startswith(PERSON)


def agreement(votes: Iterable[Vote], first: str, second: str, *, turn: int, with_ties: bool) -> Agreement:
    """How often votes of two kinds of judges, or of one kind among themselves, are the same.

    Args:
        votes: of any kinds and turns.
        first: a kind, see `Vote.kind`.
        second: the other kind; the same one for the agreement among its judges.
        turn: 1 or 2.
        with_ties: setup S1; otherwise S2, which leaves out meetings with a tie.
    """
    by_key: dict[tuple[int, str, str, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for vote in votes:
        if vote.turn == turn and (with_ties or vote.choice != "tie"):
            by_key[vote.key][vote.kind].append(vote.choice)
    num_agree = num_total = 0
    for kinds in by_key.values():
        for left, right in _meetings(kinds, first, second):
            num_total += 1
            num_agree += left == right
    return Agreement(num_agree, num_total)


def win_rates(votes: Iterable[Vote], *, turn: int) -> dict[str, WinRate]:
    """Every model's share of wins at a turn, ties counting half to both, by model name."""
    wins: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for vote in votes:
        if vote.turn != turn:
            continue
        for model, side in ((vote.model_a, "model_a"), (vote.model_b, "model_b")):
            counts[model] += 1
            wins[model] += 0.5 if vote.winner == "tie" else float(vote.winner == side)
    return {model: WinRate(wins[model], counts[model]) for model in sorted(counts)}


def read_votes(path: Path) -> list[Vote]:
    """Reads votes: JSON lines, or one JSON list as in `human_judgments.json`.

    Raises:
        DataError: the file is missing or empty, or a row is no vote; names file and line.
    """
    votes = [_vote_from(row, where=f"{path}:{number}") for number, row in _rows(path)]
    if not votes:
        raise DataError(f"{path} holds no vote", why="there is nothing to agree on", fix="name another file")
    return votes


def write_votes(path: Path, votes: Sequence[Vote]) -> None:
    """Writes the JSON list that FastChat's `compute_agreement.py` reads."""
    write_text(path, json.dumps([vote.to_json() for vote in votes], ensure_ascii=False) + "\n")


def _meetings(kinds: Mapping[str, Sequence[str]], first: str, second: str) -> Iterator[tuple[str, str]]:
    if first == second:
        return iter(combinations(kinds.get(first, ()), 2))
    return iter(product(kinds.get(first, ()), kinds.get(second, ())))


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    if not path.exists() or not path.read_text(encoding="utf-8").lstrip().startswith("["):
        yield from read_jsonl(path)
        return
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error}", fix="write the file again") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}: vote {number} holds a {type(row).__name__}", why="an object was expected")
        yield number, row


def _vote_from(row: Mapping[str, object], *, where: str) -> Vote:
    judge = row.get("judge")
    if isinstance(judge, list) and judge and all(isinstance(name, str) for name in judge):
        is_gpt4_pair = judge[0] == "gpt-4" and judge[-1].startswith("pair")
        judge = "gpt4_pair" if is_gpt4_pair else str(judge[0])
    texts = {"judge": judge, "model_a": row.get("model_a"), "model_b": row.get("model_b"), "winner": row.get("winner")}
    for name, value in texts.items():
        if not isinstance(value, str) or not value:
            raise DataError(f"{where}: {name} is {value!r:.60}", why="text was expected", fix="mend or delete the line")
    numbers = [row.get(name) for name in ("question_id", "turn")]
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in numbers):
        raise DataError(
            f"{where}: question_id and turn are {numbers[0]!r:.60} and {numbers[1]!r:.60}",
            why="whole numbers were expected",
            fix="mend or delete the line",
        )
    if row["model_a"] == row["model_b"]:
        raise DataError(f"{where}: {row['model_a']} meets itself", why="a vote is between two models")
    winner = str(row["winner"])
    if "tie" not in winner and winner not in ("model_a", "model_b"):
        raise DataError(f"{where}: winner is {winner!r:.60}", why="known are model_a, model_b and tie")
    choice: Choice = "tie" if "tie" in winner else "model_a" if winner == "model_a" else "model_b"
    question_id, turn = (int(str(value)) for value in numbers)
    return Vote(str(judge), str(row["model_a"]), str(row["model_b"]), question_id, turn, choice)
