"""`python -m eval.energy_picture FIGURES.json PICTURE.svg`: pair accuracies and best-of-n of EBRM against its base."""

import argparse
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill.errors import DataError
from eval.energy_figures import EnergyFigures
from eval.pictures import COLOURS, PICTURE_STYLE, draw_intervals, write_picture
from eval.published import PublishedBenchmark, read_published


def draw_energy(figures: EnergyFigures) -> Figure:
    """Left EBRM minus base by set, in points; right gold and proxy of the best of n, over n."""
    with matplotlib.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(9.2, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_differences(left, figures)
        numbers = [float(row.n) for row in figures.best_of_n]
        base, refined = ([getattr(row, kind) for row in figures.best_of_n] for kind in ("base_gold", "refined_gold"))
        draw_intervals(right, numbers, base, colour=COLOURS[1], label="base")
        draw_intervals(right, numbers, refined, colour=COLOURS[0], label="EBRM", is_main=True)
        right.set_xscale("log", base=2)
        right.set_xticks(numbers, [f"{n:g}" for n in numbers])
        right.minorticks_off()
        right.set_title("right answers among the best of n, %")
        right.set_xlabel("n")
        if numbers:
            right.legend(frameon=False, fontsize=8)
    return figure


def _draw_differences(axes: Axes, figures: EnergyFigures) -> None:
    for place, one in enumerate(figures.sets):
        low, mean, high = (100 * value for value in (one.difference.low, one.difference.mean, one.difference.high))
        axes.plot([low, high], [place, place], color=COLOURS[0], linewidth=2)
        axes.plot([mean], [place], "o", color=COLOURS[0], markersize=5.5)
    axes.axvline(0.0, color=COLOURS[1], linewidth=0.9)
    axes.set_yticks(range(len(figures.sets)), [one.name for one in figures.sets])
    axes.set_ylim(len(figures.sets) - 0.5, -0.5)
    axes.set_title("held-out pair accuracy: EBRM minus base, points")


def main() -> None:
    """Draws the published figures of stage `reward`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    found = read_published(arguments.figures)
    if not isinstance(found, PublishedBenchmark) or not isinstance(found.figures, EnergyFigures):
        raise DataError(
            f"{arguments.figures} holds no figures of stage reward",
            why="the picture is drawn from them",
            fix="write them: python -m eval.published RUN_FOLDER FILE --stage reward --command '...'",
        )
    write_picture(draw_energy(found.figures), arguments.picture)


if __name__ == "__main__":
    main()
