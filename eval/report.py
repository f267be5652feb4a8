"""The report of a run: one self-contained HTML page and its JSON twin.

The page fetches nothing and runs nothing: styles and plots stand inside it, every text is escaped, and its
Content-Security-Policy forbids scripts and addresses, should an escape ever be missed.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import yaml
from markupsafe import Markup
from pydantic import Field

from distill.files import read_json, write_json, write_text
from distill.settings import Settings, validated
from eval.page import page_environment
from eval.plots import curve_svg, interval_svg
from eval.results import MISSING, ResultTable, megabytes, small_number

log = logging.getLogger(__name__)

TEMPLATE = "report.html.jinja"

# title -> (metric -> what the legend calls it, whether 0 matters); drawn where the stage logged one of the metrics
CURVES: dict[str, tuple[dict[str, str], bool]] = {
    "loss (nats)": ({"loss": "training", "valid_loss": "held out"}, False),
    "margin the sigmoid sees, and the teacher's δ": ({"margin": "margin", "delta_te": "δ of the teacher"}, True),
    "reward of each side": ({"chosen_reward": "chosen", "rejected_reward": "rejected"}, True),
    "pair weight": ({"pair_weight": "pair weight"}, False),
    "share of pairs with a positive margin": ({"accuracy": "training", "valid_accuracy": "held out"}, False),
    "log-probability of each side (nats)": ({"chosen_log_prob": "chosen", "rejected_log_prob": "rejected"}, False),
    "gradient norm": ({"grad_norm": "gradient norm"}, False),
    "training speed (tokens/s)": ({"tokens_per_s": "tokens/s"}, False),
}


class StageRow(Settings):
    """One stage of the run."""

    name: str
    status: str
    elapsed_s: float | None = None
    summary: dict[str, object] = Field(default_factory=dict)


class FidelityRow(Settings):
    """How close one exported artefact is to the merged model."""

    format: str
    size_bytes: int | None = None
    kl_nats: float | None = None
    same_top_token: float | None = None
    smoke: str = ""


class SampleAnswer(Settings):
    """One model's answer; `is_right` is None where it cannot be checked."""

    model: str
    text: str
    is_right: bool | None = None
    reasons: tuple[str, ...] = ()


class SampleTurn(Settings):
    """One user turn with the answers of several models side by side."""

    prompt: str
    reference: str | None = None
    answers: tuple[SampleAnswer, ...]


class Sample(Settings):
    """A held-out conversation; each model answered every turn on its own earlier answers."""

    name: str
    system: str | None = None
    turns: tuple[SampleTurn, ...]


class RunReport(Settings):
    """Everything the page shows; the JSON twin is exactly this."""

    format: Literal["distill-report"] = "distill-report"
    version: Literal[1] = 1
    title: str
    description: str = ""
    created: str = ""
    recipe: dict[str, object] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    stages: tuple[StageRow, ...] = ()
    curves: dict[str, tuple[dict[str, float], ...]] = Field(
        default_factory=dict, description="metrics rows by stage: sft, train"
    )
    table: ResultTable | None = None
    accuracy_by_category: dict[str, dict[str, float]] = Field(
        default_factory=dict, description="category -> model -> accuracy"
    )
    fidelity: tuple[FidelityRow, ...] = ()
    samples: tuple[Sample, ...] = ()
    notes: tuple[str, ...] = ()


def write_report(path: Path, report: RunReport) -> None:
    """Writes the page to `path` and the JSON twin beside it, each whole or not at all."""
    write_json(path.with_suffix(".json"), report.model_dump(mode="json"))
    write_text(path, render(report))
    log.info("report: %s", path)


def read_report(path: Path) -> RunReport:
    """Reads the JSON twin.

    Raises:
        DataError: the file is missing or not JSON.
        RecipeError: it is no report; names the key.
    """
    return validated(RunReport, read_json(path), source=str(path))


def render(report: RunReport) -> str:
    """The page as HTML text."""
    environment = page_environment()
    environment.filters.update(duration=duration, megabytes=megabytes, per_cent=per_cent, small_number=small_number)
    return environment.get_template(TEMPLATE).render(
        report=report,
        headings=() if report.table is None else report.table.headings,
        missing=MISSING,
        accuracy_plot=_accuracy_plot(report.table),
        curves={stage: stage_plots(stage, rows) for stage, rows in report.curves.items()},
        categories=_category_table(report.accuracy_by_category),
        recipe=yaml.safe_dump(report.recipe, sort_keys=False, allow_unicode=True) if report.recipe else "",
    )


def stage_plots(stage: str, rows: Sequence[Mapping[str, float]]) -> list[Markup]:
    """The plots of one stage's metrics: those of `CURVES` that the stage logged."""
    plots = []
    for number, (title, (names, has_zero_line)) in enumerate(CURVES.items()):
        logged = {metric: label for metric, label in names.items() if any(metric in row for row in rows)}
        if logged:
            key = f"{stage}-{number}"
            plots.append(Markup(curve_svg(rows, logged, title=title, key=key, zero_line=has_zero_line)))
    return plots


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them: 4.2 s, 3 min 05 s, 1 h 02 min."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def per_cent(share: float | None) -> str:
    """A share in per cent."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def _accuracy_plot(table: ResultTable | None) -> Markup | None:
    entries = [(row.model, row.accuracy) for row in table.rows if row.accuracy is not None] if table else []
    if not entries:
        return None
    return Markup(interval_svg(entries, title="accuracy with 95 % intervals", key="accuracy"))


def _category_table(by_category: Mapping[str, Mapping[str, float]]) -> dict[str, list[list[str]]]:
    """Headings and rows of accuracy by category, models in the order they first appear."""
    models = list(dict.fromkeys(model for values in by_category.values() for model in values))
    rows = [[category, *(per_cent(values.get(model)) for model in models)] for category, values in by_category.items()]
    return {"headings": [["category", *models]], "rows": rows} if rows else {}
