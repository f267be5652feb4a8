"""Figures of an f-DPG stage, made up."""

from eval.f_dpg_figures import DRAWN, FDpgCurve, FDpgFigures, FDpgRow
from eval.scores import Interval

LABEL = "lacks !"


def at(mean: float) -> Interval:
    return Interval(mean, mean - 0.125, mean + 0.125)


def row_of(model: str, moment: float) -> FDpgRow:
    return FDpgRow(
        model=model,
        moments={LABEL: at(moment)},
        share_allowed=None,
        reward=None,
        kl_target_to_model=at(0.5),
        total_variation=at(0.25),
        jensen_shannon=at(0.125),
        kl_to_start=at(0.75),
        entropy=at(12.0),
        distinct_answers=at(0.875),
        distinct_bigrams=0.5,
    )


def figures_of(*models: str) -> FDpgFigures:
    values = dict.fromkeys(DRAWN, (0.1, 0.2, 0.3))
    curves = tuple(
        FDpgCurve(model=model, steps=(1, 2, 3), values={**values, f"moment {LABEL}": (0.4, 0.5, 0.6)})
        for model in models
    )
    return FDpgFigures(
        wanted={LABEL: 0.75},
        fitted={LABEL: 2.5},
        of_target={LABEL: at(0.75)},
        num_prompts=20,
        num_samples=8,
        rows=(row_of("start", 0.375), *(row_of(model, 0.75) for model in models)),
        curves=curves,
    )
