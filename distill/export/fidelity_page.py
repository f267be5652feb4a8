"""The fidelity report as one self-contained HTML page: every text escaped, nothing fetched, no script."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from distill.export.report import ExportReport
from distill.export.size_plot import size_against_kl_svg
from distill.files import write_text

PAGE = "report.html"
_TEMPLATE = "fidelity.html.jinja"
_MISSING = "–"


def write_page(report: ExportReport) -> Path:
    """Writes report.html beside report.json, whole or not at all."""
    path = report.output_dir / PAGE
    write_text(path, render_page(report))
    return path


def render_page(report: ExportReport) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, per_cent=per_cent, megabytes=megabytes, speed=speed)
    picture = size_against_kl_svg(report.points(), merged_size_bytes=report.merged_size_bytes)
    return environment.get_template(_TEMPLATE).render(
        artefacts=report.artefacts,
        recommendations=report.recommendations(),
        hardware=report.hardware,
        fidelities=[a.fidelity for a in report.artefacts if a.fidelity is not None][:1],
        has_teacher=any(a.teacher is not None for a in report.artefacts),
        picture=None if picture is None else Markup(picture),
        missing=_MISSING,
    )


def number(value: float | None) -> str:
    """A figure that may span orders of magnitude, to three digits."""
    return _MISSING if value is None else f"{value:.3g}"


def per_cent(share: float | None) -> str:
    """A share in per cent."""
    return _MISSING if share is None else f"{share:.2%}"


def speed(tokens_per_s: float | None) -> str:
    """Tokens per second, to three digits and without an exponent."""
    if tokens_per_s is None:
        return _MISSING
    return f"{tokens_per_s:,.0f}" if tokens_per_s >= 100 else f"{tokens_per_s:.3g}"


def megabytes(size_bytes: int | None) -> str:
    """A size in millions of bytes."""
    return _MISSING if size_bytes is None else f"{size_bytes / 1e6:,.2f}"
