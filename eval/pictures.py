"""Pictures for documents: SVG files that stand alone, the same bytes for the same figures, drawn on white."""

import io
import re
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from distill.files import write_text
from eval.plots import STYLE
from eval.scores import Interval

INK, SOFT, GRID = "#1b1f24", "#57606a", "#d8dee4"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5539")
"""Told apart by colour-blind readers too (Okabe & Ito 2008); the first is for what a picture is about."""
PICTURE_STYLE = STYLE | {
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "grid.color": GRID,
    "font.family": "sans-serif",
}


def write_picture(figure: Figure, path: Path) -> None:
    """The figure as an SVG file on white, without date or version of the program that drew it.

    Draw the figure itself inside `matplotlib.rc_context(PICTURE_STYLE)` too.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context(PICTURE_STYLE):
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1sans-serif", buffer.getvalue())
    write_text(path, re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE))


def draw_intervals(
    axes: Axes, xs: list[float], values: list[Interval], *, colour: str, label: str, is_main: bool = False
) -> None:
    """A line of shares in per cent over `xs`, each with its interval."""
    means = [100 * value.mean for value in values]
    reach = [
        [100 * (value.mean - value.low) for value in values],
        [100 * (value.high - value.mean) for value in values],
    ]
    width, size = (2.2, 5.0) if is_main else (1.2, 3.5)
    axes.errorbar(
        xs, means, yerr=reach, color=colour, label=label, linewidth=width, marker="o", markersize=size, elinewidth=0.9
    )
