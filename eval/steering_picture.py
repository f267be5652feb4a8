"""`python -m eval.steering_picture FIGURES.json PICTURE.svg`: how answers change with the ratio, as a picture."""

import argparse
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill.errors import DataError
from eval.pictures import COLOURS, INK, PICTURE_STYLE, SOFT, draw_intervals, write_picture
from eval.published import PublishedBenchmark, read_published
from eval.steering_figures import NO_PRINCIPLE, PROMPTING, SteeringArm, SteeringFigures


def draw_steering(figures: SteeringFigures) -> Figure:
    """Left personality accuracy, pooled and by personality; right all that an answer should reach, pooled.

    Raises:
        DataError: the figures hold no ratios.
    """
    arms = {arm.name: arm for arm in figures.arms}
    steered = sorted((arm for arm in figures.arms if arm.ratio is not None), key=lambda arm: arm.ratio or 0.0)
    if not steered:
        raise DataError("the figures hold no ratio", why="the picture shows how answers change with it")
    ratios = [arm.ratio or 0.0 for arm in steered]
    with matplotlib.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(9.2, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        names = sorted(steered[0].by_personality)
        for colour, name in zip(COLOURS[1:], names, strict=False):
            draw_intervals(left, ratios, [arm.by_personality[name] for arm in steered], colour=colour, label=name)
        draw_intervals(left, ratios, [arm.personality for arm in steered], colour=COLOURS[0], label="all", is_main=True)
        for colour, label, values in (
            (COLOURS[0], "personality", [arm.personality for arm in steered]),
            (COLOURS[1], "scenario", [arm.scenario for arm in steered]),
            (COLOURS[2], "both", [arm.both for arm in steered]),
        ):
            draw_intervals(right, ratios, values, colour=colour, label=label, is_main=label == "personality")
        _level(left, arms.get(PROMPTING), PROMPTING)
        _level(left, arms.get(NO_PRINCIPLE), NO_PRINCIPLE)
        _label(left, "personality accuracy, %")
        _label(right, "all personalities: what answers reach, %")
    return figure


def _level(axes: Axes, arm: SteeringArm | None, name: str) -> None:
    if arm is not None:
        height, place = 100 * arm.personality.mean, ("axes fraction", "data")
        axes.axhline(height, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(name, (0.98, height), xycoords=place, va="bottom", ha="right", color=INK, fontsize=8)


def _label(axes: Axes, title: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("ratio")
    axes.legend(frameon=False, fontsize=8, ncols=2)


def main() -> None:
    """Draws the published figures of stage `linear_alignment`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    found = read_published(arguments.figures)
    if not isinstance(found, PublishedBenchmark) or not isinstance(found.figures, SteeringFigures):
        raise DataError(
            f"{arguments.figures} holds no figures of Linear Alignment",
            why="the picture is drawn from them",
            fix="write them: python -m eval.published RUN_FOLDER FILE --stage linear_alignment --command '...'",
        )
    write_picture(draw_steering(found.figures), arguments.picture)


if __name__ == "__main__":
    main()
