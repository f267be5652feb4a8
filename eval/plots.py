"""Curves and interval plots as SVG text to stand inside an HTML page: colours are the page's, nothing is fetched."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.scores import Interval

# Stand-ins that the page's own variables replace, so that a plot follows the light or the dark scheme.
INK, SOFT, GRID, FIRST, SECOND = "#010a01", "#020a02", "#030a03", "#040a04", "#050a05"
THIRD, FOURTH, FIFTH, SIXTH = "#060a06", "#070a07", "#080a08", "#090a09"
PAGE_COLOURS = {INK: "--ink", SOFT: "--soft", GRID: "--line", FIRST: "--first", SECOND: "--second"}
PAGE_COLOURS |= {THIRD: "--third", FOURTH: "--fourth", FIFTH: "--fifth", SIXTH: "--sixth"}
LINE_COLOURS = (FIRST, SECOND)
SERIES_COLOURS = (FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH)
STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "distill",
    "font.size": 9.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": SOFT,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
}
SMOOTHED_STEPS_SHARE = 0.03
FEW_POINTS = 20


def curve_svg(
    rows: Sequence[Mapping[str, float]], names: Mapping[str, str], *, title: str, key: str, zero_line: bool = False
) -> str:
    """One plot of metrics over steps: each raw curve thin, its running mean over it.

    Args:
        rows: metrics, one mapping a step, with `step`; rows without a metric are left out of its curve.
        names: metric -> what the legend calls it; at most two.
        title: says what is drawn, with its unit.
        key: makes the ids of this plot's elements unique on the page.
        zero_line: draws a line at 0.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 2.5), layout="constrained")
        axes = figure.subplots()
        for colour, (metric, label) in zip(LINE_COLOURS, names.items(), strict=False):
            steps = [row["step"] for row in rows if metric in row]
            values = [row[metric] for row in rows if metric in row]
            marker = "o" if len(values) <= FEW_POINTS else ""
            axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3, marker=marker, markersize=3.5)
            axes.plot(steps, running_mean(values), color=colour, linewidth=1.8, label=label)
        if zero_line:
            axes.axhline(0.0, color=SOFT, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_title(title)
        axes.set_xlabel("step")
        if len(names) > 1:
            axes.legend(frameon=False, fontsize=9)
        return page_svg(figure, key=key, label=title)


def interval_svg(entries: Sequence[tuple[str, Interval]], *, title: str, key: str) -> str:
    """Shares with their intervals, one line each, first on top, in per cent."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.8, 0.8 + 0.32 * len(entries)), layout="constrained")
        axes = figure.subplots()
        for position, (_, value) in enumerate(entries):
            axes.plot([100 * value.low, 100 * value.high], [position] * 2, color=FIRST, linewidth=2, alpha=0.55)
            axes.plot([100 * value.mean], [position], "o", color=FIRST, markersize=5.5)
        axes.set_yticks(range(len(entries)), [plain_text(name) for name, _ in entries])
        axes.set_ylim(len(entries) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        _per_cent(axes)
        axes.set_title(title)
        return page_svg(figure, key=key, label=title)


def running_mean(values: Sequence[float]) -> list[float]:
    """The mean of each value and its neighbours, over a window of three per cent of the curve (at least 3 values)."""
    half = max(1, int(len(values) * SMOOTHED_STEPS_SHARE / 2))
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def plain_text(text: str) -> str:
    """Text that matplotlib draws letter by letter; between dollar signs it would read mathematics."""
    return text.replace("$", r"\$")


def page_svg(figure: Figure, *, key: str, label: str) -> str:
    """The figure as an `svg` element for HTML: no prologue, no addresses, ids led by `key`, colours as variables.

    The style element goes too, since inside HTML it would reach the whole page, which states the same rule itself.
    """
    buffer = io.StringIO()
    none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=none)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{key}-', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{key}-", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    for colour, variable in PAGE_COLOURS.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{_attribute(label)}" ', 1).strip()


def _per_cent(axes: Axes) -> None:
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -100.0), min(high, 101.0))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %".replace("-", "−"))


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
