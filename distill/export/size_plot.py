"""The size of each artefact against its distance from the merged model, as SVG text to stand inside an HTML page."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

# Stand-ins that the page's own variables replace, so that the picture follows the light or the dark scheme.
_COLOURS = {"#010a01": "--ink", "#020a02": "--soft", "#030a03": "--line", "#040a04": "--first"}
_INK, _SOFT, _LINE, _FIRST = _COLOURS
_MEGABYTE = 1e6


@dataclass(frozen=True)
class SizePoint:
    """One artefact in the picture."""

    name: str
    size_bytes: int
    kl_nats: float


def size_against_kl_svg(points: Sequence[SizePoint], *, merged_size_bytes: int | None = None) -> str | None:
    """Size to the right, KL upwards on a logarithmic scale, each point with its name.

    Args:
        points: those at no distance at all have no place on the scale and are left out.
        merged_size_bytes: draws a line at the size of the unquantized model.

    Returns:
        An `svg` element without scripts, addresses or style element; None where no point has a place.
    """
    shown = [point for point in points if point.kl_nats > 0]
    if not shown:
        return None
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    style: dict[str, object] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "distill",
        "font.size": 9.5,
        "axes.edgecolor": _LINE,
        "axes.labelcolor": _SOFT,
        "text.color": _INK,
        "text.parse_math": False,
        "xtick.color": _SOFT,
        "ytick.color": _SOFT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": _LINE,
        "grid.linewidth": 0.6,
    }
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=(8.5, 4.0), layout="constrained")
        axes = figure.subplots()
        for point in shown:
            place = point.size_bytes / _MEGABYTE, point.kl_nats
            axes.plot(*place, "o", color=_FIRST, markersize=6)
            axes.annotate(point.name, place, xytext=(6, 5), textcoords="offset points", fontsize=9)
        if merged_size_bytes is not None:
            axes.axvline(merged_size_bytes / _MEGABYTE, color=_SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(left=0.0)
        axes.margins(x=0.12, y=0.15)
        axes.set_xlabel("size of the model's files (MB); the dashed line is the merged model")
        axes.set_ylabel("KL to the merged model (nats per token)")
        buffer = io.StringIO()
        none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=none)
    return _for_page(buffer.getvalue())


def _for_page(svg: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg ", '<svg role="img" aria-label="size against KL divergence" ', 1).strip()
