"""Several judges on the same answers: how far each two agree, and all of them together."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Literal, TypeVar

from pydantic import Field

from distill.settings import Settings
from eval.mt_bench.board.settings import BoardSettings
from eval.mt_bench.strict import KeyVerdict
from eval.mt_bench.strict_pair import PairVerdict
from eval.mt_bench.verdicts import HIGHEST_SCORE, LOWEST_SCORE
from eval.paired import studentised_difference
from eval.reliability import cohen_kappa, krippendorff_alpha
from eval.scores import Interval

WHOLE_SCORES = tuple(range(int(LOWEST_SCORE), int(HIGHEST_SCORE) + 1))
Unit = TypeVar("Unit", bound=Hashable)

OUTCOMES = {"first": 1.0, "tie": 0.0, "second": -1.0}


class JudgeAgreement(Settings):
    """Two judges on what both gave a verdict on."""

    mode: Literal["single", "pair"]
    first: str
    second: str
    num_compared: int
    share_equal: float = Field(description="of scores rounded to whole points, or of winners")
    kappa: float = Field(description="Cohen's; quadratic weights for rounded scores, none for winners")
    difference: Interval | None = Field(None, description="single: first minus second in points, by question")


class PanelAgreement(Settings):
    """All judges of a mode together."""

    mode: Literal["single", "pair"]
    judges: tuple[str, ...]
    num_units: int = Field(description="answers, or pairs of answers, with verdicts of at least two judges")
    alpha: float = Field(description="Krippendorff's; interval for scores, nominal for winners")


def score_agreement(
    verdicts: Mapping[str, Sequence[KeyVerdict]], *, settings: BoardSettings
) -> tuple[list[JudgeAgreement], PanelAgreement | None]:
    """How judges' scores agree; nothing where no two scored a common answer.

    Args:
        verdicts: by judge.
        settings: of the resampling.
    """
    scores = {
        judge: {(v.model, v.question_id, v.turn): v.score for v in given if v.score is not None}
        for judge, given in verdicts.items()
    }
    found = []
    for first, second in combinations(scores, 2):
        shared = sorted(scores[first].keys() & scores[second].keys())
        if not shared:
            continue
        left, right = ([scores[judge][key] for key in shared] for judge in (first, second))
        questions = [question for _, question, _ in shared]
        rounded = [round(value) for value in left], [round(value) for value in right]
        difference = None
        if len(set(questions)) > 1:
            difference = studentised_difference(
                left,
                right,
                clusters=questions,
                scale=(LOWEST_SCORE, HIGHEST_SCORE),
                seed=settings.seed,
                num_resamples=settings.num_resamples,
            ).difference
        found.append(
            JudgeAgreement(
                mode="single",
                first=first,
                second=second,
                num_compared=len(shared),
                share_equal=sum(a == b for a, b in zip(*rounded, strict=True)) / len(shared),
                kappa=cohen_kappa(*rounded, categories=WHOLE_SCORES, weights="quadratic"),
                difference=difference,
            )
        )
    return found, _panel("single", scores)


def winner_agreement(
    verdicts: Mapping[str, Sequence[PairVerdict]],
) -> tuple[list[JudgeAgreement], PanelAgreement | None]:
    """How judges' winners agree, ties among them; nothing where no two compared the same answers."""
    winners = {
        judge: {(v.first, v.second, v.question_id, v.turn): OUTCOMES[v.winner] for v in given if v.winner is not None}
        for judge, given in verdicts.items()
    }
    found = []
    for first, second in combinations(winners, 2):
        shared = sorted(winners[first].keys() & winners[second].keys())
        if not shared:
            continue
        left, right = ([winners[judge][key] for key in shared] for judge in (first, second))
        found.append(
            JudgeAgreement(
                mode="pair",
                first=first,
                second=second,
                num_compared=len(shared),
                share_equal=sum(a == b for a, b in zip(left, right, strict=True)) / len(shared),
                kappa=cohen_kappa(left, right),
            )
        )
    return found, _panel("pair", winners)


def _panel(mode: Literal["single", "pair"], values: Mapping[str, Mapping[Unit, float]]) -> PanelAgreement | None:
    by_unit: dict[Unit, list[float]] = {}
    for given in values.values():
        for key, value in given.items():
            by_unit.setdefault(key, []).append(value)
    units = [unit for unit in by_unit.values() if len(unit) > 1]
    if not units:
        return None
    return PanelAgreement(
        mode=mode,
        judges=tuple(values),
        num_units=len(units),
        alpha=krippendorff_alpha(units, measurement="interval" if mode == "single" else "nominal"),
    )
