"""Draws what a student gained and what its texts became: `python -m eval.harmlessness_picture RESULTS PICTURE.svg`.

RESULTS is what stage `harmlessness` wrote, or the published figures in docs/results.
"""

import argparse
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.harmlessness_figures import HarmlessnessFigures, HarmlessnessRow, read_harmlessness
from eval.pictures import COLOURS, PICTURE_STYLE, SOFT, write_picture

OFFSET = 0.14
"""Of the two students of a row, in rows."""


def harmlessness_picture(figures: HarmlessnessFigures) -> Figure:
    """Left the shares before and after with their intervals, right the lines of the source by what became of them."""
    rows = [*figures.rows, *figures.by_kind]
    fates = {name.replace("_", " "): count for name, count in figures.fates.items() if count}
    with matplotlib.rc_context(PICTURE_STYLE):
        figure = Figure(figsize=(10.4, 1.2 + 0.34 * max(len(rows), len(fates))), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _draw_shares(left, rows)
        _draw_fates(right, fates)
    return figure


def _draw_shares(axes: Axes, rows: list[HarmlessnessRow]) -> None:
    for at, row in enumerate(rows):
        both = ((SOFT, row.before, "before", -OFFSET), (COLOURS[0], row.after, "after", OFFSET))
        for colour, share, label, offset in both:
            mean, low, high = (100 * value for value in (share.mean, share.low, share.high))
            axes.plot([low, high], [at + offset] * 2, color=colour, linewidth=1.6, alpha=0.6)
            axes.plot([mean], [at + offset], "o", color=colour, markersize=5, label=label if at == 0 else "_none")
    axes.set_yticks(range(len(rows)), [row.name.replace("_", " ") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.grid(visible=False, axis="y")
    axes.set_title("share of answers on held-out prompts, per cent")
    axes.legend(loc="upper right", frameon=False)


def _draw_fates(axes: Axes, fates: dict[str, int]) -> None:
    for at, (name, count) in enumerate(fates.items()):
        axes.barh(at, count, color=COLOURS[0] if name == "kept" else SOFT, alpha=1.0 if name == "kept" else 0.5)
        axes.annotate(str(count), (count, at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(fates)), list(fates))
    axes.set_ylim(len(fates) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_title("what became of the texts, lines")


def main() -> None:
    """Reads figures and writes their picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    arguments = parser.parse_args()
    write_picture(harmlessness_picture(read_harmlessness(arguments.results)), arguments.picture)


if __name__ == "__main__":
    main()
