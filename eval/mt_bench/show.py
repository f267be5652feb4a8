"""The tables of FastChat's `show_result.py`, number for number, from its own files.

They reproduce what FastChat prints and nothing else: rows whose reading failed are left out of every mean, and rows
judged twice count twice. Both are told in the log; `eval.mt_bench.strict` counts and bounds them.

Source:
    `show_result.py` of FastChat's llm_judge; Zheng et al. 2023, arXiv:2306.05685.
"""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from distill.errors import DataError
from eval.mt_bench.judgments import FAILED_SCORE, PairJudgment, SingleJudgment

log = logging.getLogger(__name__)

BASELINE_MODEL = "gpt-3.5-turbo"


@dataclass(frozen=True)
class Mean:
    """A mean and over how many rows it goes."""

    value: float
    count: int


@dataclass(frozen=True)
class FastChatScore:
    """A model's scores as FastChat prints them.

    `num_failed` rows hold -1 or null and count in no mean; `average` goes over all other rows, so that a turn with
    more failures weighs less; None where no row is left, a model that FastChat does not show.
    """

    model: str
    num_rows: int
    num_failed: int
    average: Mean | None
    by_turn: Mapping[int, Mean]
    by_category: Mapping[str, Mean]


@dataclass(frozen=True)
class FastChatWinRate:
    """A model's wins, losses and ties as FastChat prints them; rows with an error are left out."""

    model: str
    num_wins: int
    num_losses: int
    num_ties: int

    @property
    def num_rows(self) -> int:
        """Rows that count."""
        return self.num_wins + self.num_losses + self.num_ties

    @property
    def win_rate(self) -> float:
        """Wins over rows, in [0, 1]."""
        return self.num_wins / self.num_rows

    @property
    def loss_rate(self) -> float:
        """Losses over rows, in [0, 1]."""
        return self.num_losses / self.num_rows

    @property
    def win_rate_adjusted(self) -> float:
        """Wins and half the ties over rows, in [0, 1]."""
        return (self.num_wins + 0.5 * self.num_ties) / self.num_rows


def fastchat_single(
    rows: Iterable[SingleJudgment],
    *,
    categories: Mapping[int, str] | None = None,
    models: Collection[str] | None = None,
) -> list[FastChatScore]:
    """`show_result.py --mode single`, best model first.

    Args:
        rows: of a `<judge>_single.jsonl`.
        categories: of the questions by id, for means that FastChat does not print; rows of other questions count
            in no category.
        models: the ones to show; all by default.
    """
    by_model: dict[str, list[SingleJudgment]] = defaultdict(list)
    for row in rows:
        if models is None or row.model in models:
            by_model[row.model].append(row)
    scores = [_score_of(model, judged, categories or {}) for model, judged in by_model.items()]
    return sorted(scores, key=lambda score: (-(score.average.value if score.average else -math.inf), score.model))


def fastchat_pair(
    rows: Iterable[PairJudgment],
    *,
    baseline: str | None = BASELINE_MODEL,
    models: Collection[str] | None = None,
) -> list[FastChatWinRate]:
    """`show_result.py --mode pairwise-baseline`, or `pairwise-all` where `baseline` is None; best model first.

    A row is a tie when game 1 is one or the two games differ. The baseline's own line is left out.

    Args:
        rows: of a `<judge>_pair.jsonl`.
        baseline: only its rows count.
        models: only rows with one of these as model 1 count; all by default.

    Raises:
        DataError: no row is left to count.
    """
    counted, num_errors = Counter[tuple[str, str]](), 0
    for row in rows:
        first, second = row.games
        if "error" in (first, second):
            num_errors += 1
            continue
        if models is not None and row.model_1 not in models:
            continue
        if baseline is not None and baseline not in (row.model_1, row.model_2):
            continue
        is_tie = first == "tie" or first != second
        for name, model in (("model_1", row.model_1), ("model_2", row.model_2)):
            counted[model, "tie" if is_tie else "win" if first == name else "loss"] += 1
    if num_errors:
        log.warning("%d rows with an error are left out, as FastChat does", num_errors)
    if not counted:
        against = "" if baseline is None else f" against {baseline}"
        raise DataError(f"no decided row{against} is left", fix="name a baseline that was judged, or compare all pairs")
    shown = {model for model, _ in counted} - {baseline}
    rates = [FastChatWinRate(model, *(counted[model, name] for name in ("win", "loss", "tie"))) for model in shown]
    return sorted(rates, key=lambda rate: (-rate.win_rate_adjusted, rate.model))


def _score_of(model: str, rows: Sequence[SingleJudgment], categories: Mapping[int, str]) -> FastChatScore:
    everything: list[float] = []
    by_turn: dict[int, list[float]] = defaultdict(list)
    by_category: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.score is None or row.score == FAILED_SCORE:
            continue
        everything.append(row.score)
        by_turn[row.turn].append(row.score)
        if row.question_id in categories:
            by_category[categories[row.question_id]].append(row.score)
    num_failed = len(rows) - len(everything)
    if num_failed:
        log.warning("%s: %d of %d rows failed and are left out, as FastChat does", model, num_failed, len(rows))
    num_keys = len({(row.question_id, row.turn, row.judge) for row in rows})
    if num_keys < len(rows):
        log.warning("%s: %d rows repeat others and count again, as in FastChat", model, len(rows) - num_keys)
    return FastChatScore(
        model=model,
        num_rows=len(rows),
        num_failed=num_failed,
        average=_mean(everything) if everything else None,
        by_turn={turn: _mean(values) for turn, values in sorted(by_turn.items())},
        by_category={name: _mean(values) for name, values in sorted(by_category.items())},
    )


def _mean(values: Sequence[float]) -> Mean:
    return Mean(math.fsum(values) / len(values), len(values))
