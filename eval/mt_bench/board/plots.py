"""Scores with their intervals as SVG: beside each other, by category, and as radars."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from eval.plots import GRID, SERIES_COLOURS, SOFT, STYLE, page_svg, plain_text
from eval.scores import Interval

PLOTTED_SCALE = (1.0, 10.0)
FEWEST_SPOKES = 3
RADARS_A_ROW = 4

Series = Mapping[str, Mapping[str, Interval]]
"""Intervals by model, then by category."""


def colour_of(number: int) -> str:
    """The colour of the model of this place; colours come again after six."""
    return SERIES_COLOURS[number % len(SERIES_COLOURS)]


def interval_plot(
    rows: Sequence[tuple[str, Sequence[tuple[int, Interval]]]],
    *,
    title: str,
    key: str,
    names: Sequence[str] = (),
    scale: tuple[float, float] | None = None,
    zero_line: bool = False,
) -> str:
    """Means with their intervals, a row for each name, first on top; several to a row stand beneath each other.

    Args:
        rows: a name, and the number of each model (it gives the colour) with its interval.
        title: what is drawn, with its unit.
        key: makes the ids of this plot's elements unique on the page.
        names: of the models by number, for a legend.
        scale: ends of the axis.
        zero_line: draws a line at 0.
    """
    with _page_style():
        height = sum(0.16 + 0.17 * max(1, len(values)) for _, values in rows)
        figure = Figure(figsize=(10.0, 0.9 + height + (0.3 if names else 0.0)), layout="constrained")
        axes = figure.subplots()
        middles, top = [], 0.0
        for _, values in rows:
            lines = max(1, len(values))
            middles.append(top + (lines - 1) / 2.0)
            for line, (number, value) in enumerate(values):
                colour = colour_of(number)
                axes.plot([value.low, value.high], [top + line] * 2, color=colour, linewidth=2, alpha=0.55)
                axes.plot([value.mean], [top + line], "o", color=colour, markersize=5)
            top += lines + 1.0
        for number, name in enumerate(names):
            axes.plot([], [], "o", color=colour_of(number), markersize=5, label=plain_text(name))
        axes.set_yticks(middles, [plain_text(name) for name, _ in rows])
        axes.set_ylim(top - 1.0, -1.0)
        if scale is not None:
            axes.set_xlim(scale[0] - 0.15, scale[1] + 0.15)
        if zero_line:
            axes.axvline(0.0, color=SOFT, linewidth=0.8, linestyle=(0, (3, 3)))
        _without_frame(axes)
        axes.set_title(plain_text(title))
        if names:
            figure.legend(frameon=False, fontsize=9, ncols=min(6, len(names)), loc="outside lower left")
        return page_svg(figure, key=key, label=title)


def radar_plot(
    series: Series, *, numbers: Sequence[int], categories: Sequence[str], title: str, key: str
) -> str | None:
    """A radar for each model: its means by category, the band of its intervals, the other models as thin lines.

    Args:
        series: intervals by model and category.
        numbers: of the models, for their colours.
        categories: in the order of the spokes.
        title: what is drawn.
        key: makes the ids of this plot's elements unique on the page.

    Returns:
        The SVG, or None with fewer than three categories that every model has an interval in.
    """
    spokes = [name for name in categories if all(name in values for values in series.values())]
    if len(spokes) < FEWEST_SPOKES:
        return None
    angles = [2.0 * math.pi * number / len(spokes) for number in range(len(spokes))]
    closed = [*angles, angles[0]]
    with _page_style():
        columns = min(RADARS_A_ROW, len(series))
        num_rows = math.ceil(len(series) / columns)
        # The layout leaves no room for what a polar plot's title adds above its outermost label.
        figure = Figure(figsize=(3.1 * columns, 3.3 * num_rows), layout=ConstrainedLayoutEngine(h_pad=0.22))
        for place, (number, (model, values)) in enumerate(zip(numbers, series.items(), strict=True)):
            axes = figure.add_subplot(num_rows, columns, place + 1, projection="polar")
            axes.set(theta_offset=math.pi / 2.0, theta_direction=-1)
            for other in (name for name in series if name != model):
                axes.plot(
                    closed, _around([series[other][name].mean for name in spokes]), color=SOFT, lw=0.7, alpha=0.45
                )
            colour = colour_of(number)
            low, high = (_around([getattr(values[name], end) for name in spokes]) for end in ("low", "high"))
            axes.fill_between(closed, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(closed, _around([values[name].mean for name in spokes]), color=colour, linewidth=1.8)
            axes.set_ylim(0.0, PLOTTED_SCALE[1])
            axes.set_yticks([2.5, 5.0, 7.5, 10.0], ["", "5", "", "10"], fontsize=7)
            axes.set_xticks(angles, [plain_text(name) for name in spokes], fontsize=7.5)
            axes.spines["polar"].set_color(GRID)
            axes.set_title(plain_text(model), loc="center", fontsize=10, pad=10)
        return page_svg(figure, key=key, label=title)


def _around(values: Sequence[float]) -> list[float]:
    return [*values, values[0]]


def _without_frame(axes: Axes) -> None:
    axes.tick_params(axis="y", length=0, labelcolor=matplotlib.rcParams["text.color"])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))


@contextmanager
def _page_style() -> Iterator[None]:
    """The page's style; letters that matplotlib's own font lacks are the page's to draw."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield
