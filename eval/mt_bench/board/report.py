"""The page of a judged benchmark and its JSON twin: self-contained, escaped, readable without its script.

The page fetches nothing. Its one script filters and sorts the judgment browser; the Content-Security-Policy allows
that script alone, by its checksum, so that a missed escape could not run anything.
"""

import base64
import hashlib
import json
import logging
from itertools import combinations
from pathlib import Path
from typing import Literal

from markupsafe import Markup
from pydantic import Field

from distill.errors import DataError
from distill.files import read_json, write_json, write_text
from distill.settings import Settings, validated
from eval.mt_bench.board.benchmark import Benchmark
from eval.mt_bench.board.browser import BrowsedPair, BrowsedQuestion, browsed_questions, loss_of
from eval.mt_bench.board.scoreboard import Scoreboard, scoreboard
from eval.mt_bench.board.sections import page_sections
from eval.mt_bench.board.settings import BoardSettings
from eval.mt_bench.board.tables import warnings_of
from eval.page import page_environment

log = logging.getLogger(__name__)

TEMPLATE, SCRIPT = "board.html.jinja", "filters.js"

MOST_QUESTIONS = 400
"""Questions in the page's browser, those with the biggest losses; the JSON twin holds all."""

STATUSES = (
    ("ok", "read"),
    ("ambiguous", "ambiguous"),
    ("unscored", "unscored"),
    ("missing", "missing"),
    ("disagree", "orders disagree"),
)
"""What the browser filters verdicts by: the word in the page, the word a reader sees."""

LONGEST_TEXT = 20_000
"""Characters of one text on the page; the JSON twin holds all."""

FOLDED_FROM = 1_200
"""Characters from which a text is folded."""


class BenchmarkReport(Settings):
    """Everything the page shows; the JSON twin is exactly this."""

    format: Literal["distill-benchmark-report"] = "distill-benchmark-report"
    version: Literal[1] = 1
    title: str
    created: str = ""
    board: Scoreboard
    model: str | None = Field(description="the browser begins with its biggest losses; None: one model alone")
    against: str | None = Field(description="the model that it is compared with")
    questions: tuple[BrowsedQuestion, ...]
    versions: dict[str, str] = Field(default_factory=dict)


def benchmark_report(
    benchmark: Benchmark,
    *,
    settings: BoardSettings | None = None,
    title: str | None = None,
    created: str = "",
    model: str | None = None,
    against: str | None = None,
    versions: dict[str, str] | None = None,
) -> BenchmarkReport:
    """Computes the scoreboard and gathers the texts.

    Args:
        benchmark: what was read.
        settings: of the scoreboard.
        title: the benchmark's name by default.
        created: when, as it is to stand on the page.
        model: whose biggest losses come first; by default the last in rank.
        against: the model it is compared with; by default the teacher if it was judged, else the first in rank.
        versions: of the libraries, for the page's end.

    Raises:
        DataError: what `scoreboard` refuses, or `model` or `against` was not judged.
    """
    board = scoreboard(benchmark, settings=settings)
    for name in (model, against):
        if name is not None and name not in board.models:
            raise DataError(f"{name} was not judged", why=f"there are: {', '.join(board.models)}", fix="name one")
    teacher = board.settings.teacher
    against = against or next(
        (name for name in (teacher, *board.models) if name in board.models and name != model), None
    )
    model = model or next((name for name in reversed(board.models) if name != against), None)
    questions = browsed_questions(benchmark, models=board.models)
    return BenchmarkReport(
        title=title or f"Judged answers: {benchmark.name}",
        created=created,
        board=board,
        model=model if against is not None else None,
        against=against if model is not None else None,
        questions=tuple(questions),
        versions=versions or {},
    )


def write_benchmark_report(path: Path, report: BenchmarkReport) -> None:
    """Writes the page to `path` and the JSON twin beside it, each whole or not at all."""
    write_json(path.with_suffix(".json"), report.model_dump(mode="json"))
    write_text(path, render(report))
    log.info("report: %s", path)


def read_benchmark_report(path: Path) -> BenchmarkReport:
    """Reads the JSON twin.

    Raises:
        DataError: the file is missing or not JSON.
        RecipeError: it is no report; names the key.
    """
    return validated(BenchmarkReport, read_json(path), source=str(path))


def render(report: BenchmarkReport) -> str:
    """The page as HTML text."""
    folder = Path(__file__).parent
    script = (folder / SCRIPT).read_text(encoding="utf-8")
    checksum = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = page_environment(folder)
    environment.filters.update(losses=lambda question: losses_text(question, report.board.models))
    shown = sorted_questions(report)
    return environment.get_template(TEMPLATE).render(
        report=report,
        board=report.board,
        sections=page_sections(report.board),
        warnings=warnings_of(report.board),
        questions=shown[:MOST_QUESTIONS],
        num_left_out=max(0, len(shown) - MOST_QUESTIONS),
        judges=report.board.judges,
        provenance=[
            (one.protocol.key, json.dumps(one.provenance, indent=2, ensure_ascii=False))
            for one in report.board.judged
            if one.provenance
        ],
        turns=[(str(turn), str(turn)) for turn in sorted({t.turn for q in report.questions for t in q.turns})],
        statuses=STATUSES,
        numbered=lambda names: [(str(number), name) for number, name in enumerate(names)],
        index_of=lambda names, name: list(names).index(name),
        pair_statuses=pair_statuses,
        number=lambda value: f"{value:.4g}",
        loss_of=loss_of,
        longest_text=LONGEST_TEXT,
        folded_from=FOLDED_FROM,
        script=Markup(script),
        script_checksum=checksum,
    )


def sorted_questions(report: BenchmarkReport) -> list[BrowsedQuestion]:
    """The questions with the biggest loss of `model` against `against` first; those without one last, in file order."""
    if report.model is None or report.against is None:
        return list(report.questions)
    losses = {q.question_id: loss_of(q, report.model, report.against) for q in report.questions}
    return sorted(
        report.questions,
        key=lambda q: float("inf") if (loss := losses[q.question_id]) is None else -loss,
    )


def pair_statuses(pair: BrowsedPair) -> str:
    """The words by which the page's script finds a pair."""
    words = dict.fromkeys(game.status for game in pair.games)
    return " ".join([*words, *([] if pair.is_consistent else ["disagree"])])


def losses_text(question: BrowsedQuestion, models: tuple[str, ...]) -> str:
    """The losses of every two models in the order (0, 1), (0, 2), ..., for the page's script; none is nothing."""
    losses = (loss_of(question, first, second) for first, second in combinations(models, 2))
    return ",".join("" if loss is None else f"{loss:.4g}" for loss in losses)
