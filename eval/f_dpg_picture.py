"""Draws f-DPG's trainings and what they cost: `python -m eval.f_dpg_picture RESULTS.json PICTURE.svg`.

RESULTS.json is what stage `f_dpg` wrote, or the published figures in docs/results.
"""

import argparse
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.f_dpg_figures import MOMENT, FDpgFigures, read_f_dpg
from eval.pictures import COLOURS, PICTURE_STYLE, SOFT, write_picture
from eval.plots import plain_text, running_mean
from eval.scores import Interval

PANELS = {
    "total_variation": "total variation to the target",
    "kl_target_to_policy": "KL(target‖student), nats",
    "entropy": "entropy of whole answers, nats",
}


def f_dpg_picture(figures: FDpgFigures) -> Figure:
    """Moments, distances and entropy over steps, and at the end alignment against diversity on held-out prompts."""
    moments = [f"{MOMENT}{label}" for label in figures.wanted]
    panels = {**{name: plain_text(f"mean of: {name.removeprefix(MOMENT)}") for name in moments}, **PANELS}
    with matplotlib.rc_context(PICTURE_STYLE):
        num_rows = (len(panels) + 2) // 2
        figure = Figure(figsize=(9.6, 2.9 * num_rows), layout="constrained")
        every: list[Axes] = list(figure.subplots(num_rows, 2).flat)
        for axes, (metric, title) in zip(every, panels.items(), strict=False):
            _draw_curves(axes, figures, metric, title=title)
        _draw_trade(every[len(panels)], figures)
        for axes in every[len(panels) + 1 :]:
            axes.set_visible(False)
        handles, labels = every[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw_curves(axes: Axes, figures: FDpgFigures, metric: str, *, title: str) -> None:
    """The running mean of each training's metric, and the wanted mean of a moment."""
    for colour, curve in zip(COLOURS, figures.curves, strict=False):
        values = running_mean(curve.values[metric])
        axes.plot(curve.steps, values, color=colour, linewidth=1.5, label=curve.model.replace("_", " "))
    wanted = figures.wanted.get(metric.removeprefix(MOMENT))
    if wanted is not None:
        axes.axhline(wanted, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
    axes.set_title(title)
    axes.set_xlabel("step")


def _draw_trade(axes: Axes, figures: FDpgFigures) -> None:
    """Each model by its distance from the target and by its entropy, with intervals; the start is grey."""
    colours = {curve.model: colour for colour, curve in zip(COLOURS, figures.curves, strict=False)}
    for row in figures.rows:
        x, y = row.jensen_shannon, row.entropy
        colour = colours.get(row.model, SOFT)
        axes.errorbar(x.mean, y.mean, xerr=_reach(x), yerr=_reach(y), color=colour, marker="o", elinewidth=0.9)
        if row.model not in colours:
            axes.annotate(row.model, (x.mean, y.mean), xytext=(6, 5), textcoords="offset points", fontsize=9)
    axes.set_title("held-out prompts: diversity against distance")
    axes.set_xlabel("Jensen-Shannon divergence to the target, nats")
    axes.set_ylabel("entropy, nats")


def _reach(value: Interval) -> list[list[float]]:
    return [[value.mean - value.low], [value.high - value.mean]]


def main() -> None:
    """Reads figures and writes their picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    write_picture(f_dpg_picture(read_f_dpg(arguments.results)), arguments.picture)


if __name__ == "__main__":
    main()
