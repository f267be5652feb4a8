import functools
import re
from html.parser import HTMLParser

import pytest

from distill.errors import RecipeError
from eval.report import (
    FidelityRow,
    RunReport,
    Sample,
    SampleAnswer,
    SampleTurn,
    StageRow,
    duration,
    per_cent,
    read_report,
    render,
    small_number,
    write_report,
)
from eval.results import Comparison, ResultRow, ResultTable
from eval.scores import Interval

ATTACK = "<script>alert(1)</script>"
INVITATION = '"><img src=x onerror=alert(1)>{{ 7 * 7 }}'


class Elements(HTMLParser):
    """Collects what a browser would make elements and attributes of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)


def report(text: str = "plain") -> RunReport:
    answers = (
        SampleAnswer(model=text, text=text, is_right=True),
        SampleAnswer(model="student", text="", is_right=False, reasons=(text, "slot:price")),
        SampleAnswer(model="unchecked", text="hm"),
    )
    rows = (
        ResultRow(model="teacher", kind="teacher", accuracy=Interval(0.93, 0.9, 0.95)),
        ResultRow(model=text, kind="student", accuracy=Interval(0.8, 0.7, 0.9), tokens_per_s=900.0),
    )
    comparison = Comparison(
        first=text, second="SFT", difference=Interval(0.01, -0.02, 0.04), p_value=0.4, num_questions=80
    )
    return RunReport(
        title=f"Run {text}",
        description=text,
        created="2026-11-21",
        recipe={"seed": 0, "student": {"path": text}},
        versions={"torch": text},
        stages=(StageRow(name="sft", status="done", elapsed_s=185.0), StageRow(name=text, status=text)),
        curves={
            "sft": tuple({"step": float(step), "loss": 1 / step} for step in range(1, 9)),
            "train": tuple({"step": float(step), "margin": 0.1, "delta_te": 0.2, "loss": 1.0} for step in range(1, 9)),
        },
        table=ResultTable(rows=rows, comparisons=(comparison,), notes=(text,)),
        accuracy_by_category={"menu": {"teacher": 0.9}, text: {"teacher": 0.8, "student": 0.7}},
        fidelity=(FidelityRow(format=text, size_bytes=10**6, kl_nats=1.2e-4, same_top_token=0.99, smoke=text),),
        samples=(Sample(name=text, system=text, turns=(SampleTurn(prompt=text, reference=text, answers=answers),)),),
        notes=(text,),
    )


@functools.cache
def page(text: str = "plain") -> str:
    return render(report(text))


@functools.cache
def page_without_curves(text: str) -> str:
    """Curves hold numbers only; without them pages are drawn faster."""
    return render(report(text).model_copy(update={"curves": {}}))


@pytest.mark.parametrize("attack", [ATTACK, INVITATION])
def test_what_models_and_recipes_write_stays_text(attack: str):
    plain, attacked = Elements(page_without_curves("plain")), Elements(page_without_curves(attack))
    assert attacked.tags == plain.tags
    assert "script" not in attacked.tags
    assert [name for name, _ in attacked.attributes] == [name for name, _ in plain.attributes]
    assert ATTACK not in page_without_curves(attack)
    assert "49" not in re.findall(r"&gt;(.*?)<", page_without_curves(INVITATION))


def test_the_page_fetches_nothing_and_forbids_what_it_does_not_need():
    html = page()
    assert not re.search(r"https?:|//[a-z]|<script|<link|<iframe|<img|@import|url\((?!#)|\bon\w+=", html)
    assert "default-src 'none'; style-src 'unsafe-inline'" in html


def test_the_page_is_balanced_and_ids_are_unique():
    elements = Elements(page())
    assert elements.unbalanced == []
    assert elements.open == []
    ids = [value for name, value in elements.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_every_part_of_the_run_is_on_the_page():
    html = page()
    for text in (
        "93.0 % [90.0, 95.0]",
        "the interval includes 0",
        "Training: sft",
        "Training: train",
        "margin the sigmoid sees",
        "✓ right",
        "✗ wrong (plain, slot:price)",
        "(empty)",
        "3 min 05 s",
        "0.00012",
        "student:\n  path: plain",
        "torch plain",
    ):
        assert text in html, text


def test_a_run_of_nothing_but_a_title_is_a_page():
    html = render(RunReport(title="Only a plan"))
    assert "<h1>Only a plan</h1>" in html
    assert "<h2>" not in html


def test_the_twin_holds_what_the_page_shows(tmp_path):
    path = tmp_path / "report.html"
    attacked = report(ATTACK).model_copy(update={"curves": {}})
    write_report(path, attacked)
    assert path.read_text(encoding="utf-8") == page_without_curves(ATTACK)
    assert read_report(tmp_path / "report.json") == attacked


def test_a_file_that_is_no_report_is_refused(tmp_path):
    (tmp_path / "report.json").write_text('{"title": "x", "format": "other"}')
    with pytest.raises(RecipeError, match="format is 'other'"):
        read_report(tmp_path / "report.json")


def test_light_and_dark_schemes_name_the_same_colours():
    html = render(RunReport(title="x"))
    light, dark = html.split("@media (prefers-color-scheme: dark)")
    names = set(re.findall(r"--(?!sans|mono)[\w-]+(?=: #)", light))
    assert names
    assert names == set(re.findall(r"--[\w-]+(?=: #)", dark))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (4.21, "4.2 s"),
        (59.94, "59.9 s"),
        (185, "3 min 05 s"),
        (3725.0, "1 h 02 min"),
        (3599.7, "1 h 00 min"),
    ],
)
def test_durations_are_written_for_people(seconds: float | None, text: str):
    assert duration(seconds) == text


def test_missing_figures_are_a_dash():
    assert per_cent(None) == small_number(None) == "–"
    assert per_cent(0.987) == "98.7 %"
    assert small_number(0.00012345) == "0.000123"
