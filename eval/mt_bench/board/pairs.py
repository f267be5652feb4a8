"""Pairwise verdicts of one judge: records, every two models, strengths of many, and what the judge leans to."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from pydantic import Field

from distill.errors import DataError
from distill.settings import Settings
from eval.bradley_terry import Game, Strengths, bradley_terry
from eval.detectable import detectable_paired
from eval.judged_pairs import JudgedPair
from eval.mt_bench.board.settings import BoardSettings
from eval.mt_bench.judgments import PairJudgment
from eval.mt_bench.questions import Question
from eval.mt_bench.show import FastChatWinRate, fastchat_pair
from eval.mt_bench.strict_pair import PairVerdict, StrictWinRate, pair_verdicts, strict_pair
from eval.preference_rate import JudgedPreference, judged_preference_rate
from eval.win_rate import WinRate, win_rate

FEWEST_MODELS = 3


class ModelRecord(Settings):
    """One model's comparisons under one judge; a tie unless both orders agree."""

    model: str
    table: StrictWinRate = Field(description="wins, ties, losses, errors, missing, with bounds of the rate")
    outcomes: WinRate | None = Field(description="win rate resampled by question; None below two questions")
    fastchat: FastChatWinRate | None = Field(None, description="what FastChat's show_result prints, where asked for")


class Matchup(Settings):
    """Two models against each other; rates are of the first."""

    first: str
    second: str
    preference: JudgedPreference = Field(description="conservative: a tie unless both orders agree")
    averaged: WinRate = Field(description="the mean of both orders")
    smallest_detectable: float = Field(description="true signed rate found four times out of five")


def verdicts_of(
    rows: Sequence[PairJudgment], *, baseline: str | None, output_formats: Mapping[str, str]
) -> list[PairVerdict]:
    """The comparisons that count.

    Raises:
        DataError: none is left, or one holds judgments of two different answers.
    """
    verdicts = pair_verdicts(rows, output_formats=output_formats)
    verdicts = [v for v in verdicts if baseline is None or baseline in (v.first, v.second)]
    if not verdicts:
        raise DataError(
            f"no comparison with the baseline {baseline}",
            why=f"compared were: {', '.join(sorted({m for row in rows for m in (row.model_1, row.model_2)}))}",
            fix="name one of these, or leave the baseline out",
        )
    return verdicts


def judged_pairs_of(
    verdicts: Sequence[PairVerdict], *, characters: Mapping[tuple[str, int, int], int]
) -> list[JudgedPair]:
    """The comparisons as pairs judged in both orders, with the lengths of the answers where they are known.

    Repeats that name different winners are a tie in both orders, as they are in `strict_pair`.
    """
    pairs = []
    for verdict in verdicts:
        names = (verdict.first, verdict.second)
        first, second = (characters.get((name, verdict.question_id, verdict.turn)) for name in names)
        pairs.append(
            JudgedPair(
                question_id=verdict.question_id,
                turn=verdict.turn,
                judge=verdict.judge,
                model_1=verdict.first,
                model_2=verdict.second,
                games=("tie", "tie") if _repeats_differ(verdict) else verdict.games,
                lengths=None if first is None or second is None else (first, second),
            )
        )
    return pairs


def model_records(
    rows: Sequence[PairJudgment],
    pairs: Sequence[JudgedPair],
    *,
    questions: Sequence[Question],
    output_formats: Mapping[str, str],
    settings: BoardSettings,
) -> list[ModelRecord]:
    """Each model's record, best first; the baseline has none.

    Raises:
        DataError: what `strict_pair` refuses; with FastChat's numbers asked for, no row that FastChat would count.
    """
    fastchat: dict[str, FastChatWinRate] = {}
    if settings.compat:
        fastchat = {rate.model: rate for rate in fastchat_pair(rows, baseline=settings.baseline)}
    records = []
    for table in strict_pair(rows, baseline=settings.baseline, questions=questions, output_formats=output_formats):
        own = [pair for pair in pairs if pair.is_scored and table.model in (pair.model_1, pair.model_2)]
        records.append(
            ModelRecord(
                model=table.model,
                table=table,
                outcomes=_win_rate(own, table.model, settings),
                fastchat=fastchat.get(table.model),
            )
        )
    return records


def matchups(
    pairs: Sequence[JudgedPair], *, models: Sequence[str], categories: Mapping[int, str], settings: BoardSettings
) -> tuple[list[Matchup], list[str]]:
    """Every two models that met, and notes on those that cannot be compared.

    Args:
        pairs: of one judge.
        models: in the order in which the first of each two stands.
        categories: of the questions, for rates by category.
        settings: of the resampling.
    """
    found, notes = [], []
    for first, second in combinations(models, 2):
        own = [pair for pair in pairs if {pair.model_1, pair.model_2} == {first, second}]
        scored = [pair for pair in own if pair.is_scored]
        if not own:
            continue
        if len({pair.question_id for pair in scored}) < 2:
            notes.append(f"{first} and {second} have verdicts on fewer than two questions: no rate is given.")
            continue
        preference = judged_preference_rate(
            own,
            student=first,
            teacher=second,
            seed=settings.seed,
            sources=categories,
            num_resamples=settings.num_resamples,
            num_fits=settings.num_fits,
        )
        averaged = win_rate(
            [pair.outcome_of(first, "averaged") for pair in scored],
            clusters=[pair.question_id for pair in scored],
            seed=settings.seed,
            num_resamples=settings.num_resamples,
        )
        found.append(
            Matchup(
                first=first,
                second=second,
                preference=preference,
                averaged=averaged,
                smallest_detectable=detectable_paired(preference.outcomes.signed_rate),
            )
        )
    return found, notes


def strengths_of(
    pairs: Sequence[JudgedPair], *, baseline: str, settings: BoardSettings
) -> tuple[Strengths | None, list[str]]:
    """Bradley-Terry strengths where at least three models met; each order of a pair is a game.

    Returns:
        The strengths, or None and a note that says why there are none.
    """
    scored = [pair for pair in pairs if pair.is_scored]
    if len({name for pair in scored for name in (pair.model_1, pair.model_2)}) < FEWEST_MODELS:
        return None, []
    outcomes = {"model_1": 1.0, "model_2": 0.0, "tie": 0.5}
    games = [
        Game(pair.model_1, pair.model_2, outcomes[game], pair.question_id) for pair in scored for game in pair.games
    ]
    try:
        strengths = bradley_terry(games, baseline=baseline, seed=settings.seed, num_resamples=settings.num_fits)
    except DataError as error:
        return None, [f"No Bradley-Terry strengths: {error.what}."]
    return strengths, []


def _repeats_differ(verdict: PairVerdict) -> bool:
    return verdict.winner == "tie" and not verdict.is_consistent and verdict.games[0] == verdict.games[1]


def _win_rate(pairs: Sequence[JudgedPair], model: str, settings: BoardSettings) -> WinRate | None:
    if len({pair.question_id for pair in pairs}) < 2:
        return None
    return win_rate(
        [pair.outcome_of(model) for pair in pairs],
        clusters=[pair.question_id for pair in pairs],
        seed=settings.seed,
        num_resamples=settings.num_resamples,
    )
