"""Verdicts of a judge that was asked the same several times; FastChat's file has room for the first alone."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field

from distill.files import read_jsonl, write_jsonl
from distill.settings import Settings, validated
from eval.mt_bench.call_store import Call
from eval.mt_bench.derived import verdict_of
from eval.mt_bench.verdicts import Winner
from eval.scores import Interval, mean_interval


class Repeated(Settings):
    """All verdicts on one call, in the order in which they were asked for."""

    question_id: int
    turn: int = Field(description="from 1")
    models: tuple[str, ...] = Field(description="one, or two in the order shown")
    scores: tuple[float | None, ...] = Field((), description="of one model; null: no verdict")
    winners: tuple[Winner | None, ...] = Field((), description="of two, by their slots; null: no verdict")


class SameWinner(Settings):
    """How often a judge of pairs names the same winner each time."""

    num_repeats: int = Field(description="times that most games were judged")
    num_games: int = Field(description="games with a verdict each of these times")
    num_same: int
    share: Interval | None = Field(description="of those games, resampled by question; None below two questions")


def repeats_file(judgments: Path) -> Path:
    """Where repeats stand: `<judge>_<mode>.repeats.jsonl`, beside FastChat's file."""
    return judgments.with_suffix(".repeats.jsonl")


def repeated_verdicts(calls: Iterable[Call]) -> list[Repeated]:
    """The repeats of each call, in the order of the calls; nothing where all were made once."""
    slots: dict[tuple[int, int, tuple[str, ...]], dict[int, Call]] = defaultdict(dict)
    for call in calls:
        slots[call.question_id, call.turn, call.models][call.repeat] = call
    num_repeats = 1 + max((number for given in slots.values() for number in given), default=0)
    if num_repeats == 1:
        return []
    rows = []
    for (question_id, turn, models), given in slots.items():
        found = [verdict_of(given[number]) if number in given else None for number in range(num_repeats)]
        scores = tuple(None if one is None else one.score for one in found)
        winners = tuple(None if one is None else one.winner for one in found)
        row = Repeated(question_id=question_id, turn=turn, models=models)
        rows.append(row.model_copy(update={"scores": scores} if len(models) == 1 else {"winners": winners}))
    return rows


def write_repeats(path: Path, rows: Sequence[Repeated]) -> None:
    """Writes the file; where there is nothing to write, there is none."""
    if rows:
        write_jsonl(path, (row.model_dump(mode="json") for row in rows))
    else:
        path.unlink(missing_ok=True)


def read_repeats(path: Path) -> list[Repeated]:
    """Reads the file; nothing where there is none.

    Raises:
        DataError: a line is no JSON object.
        RecipeError: a line is no row of repeats; names file and line.
    """
    if not path.exists():
        return []
    return [validated(Repeated, row, source=f"{path}:{number}") for number, row in read_jsonl(path)]


def same_winner(rows: Sequence[Repeated], *, seed: int, num_resamples: int) -> SameWinner | None:
    """How stable the winners are; None where no game has a verdict of two repeats or more."""
    counts = [len(row.winners) for row in rows]
    num_repeats = max(counts, default=0)
    whole = [row for row in rows if len(row.winners) == num_repeats and None not in row.winners]
    if num_repeats < 2 or not whole:
        return None
    by_question: dict[int, list[float]] = defaultdict(list)
    for row in whole:
        by_question[row.question_id].append(float(len(set(row.winners)) == 1))
    groups = list(by_question.values())
    return SameWinner(
        num_repeats=num_repeats,
        num_games=len(whole),
        num_same=int(sum(map(sum, groups))),
        share=mean_interval(groups, seed=seed, num_resamples=num_resamples) if len(groups) > 1 else None,
    )
