"""A small judged benchmark of our own: 3 models, 15 questions of two turns, verdicts of every status."""

import json
import random
from collections.abc import Callable, Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path

import pytest

from eval.mt_bench.board import (
    Benchmark,
    BenchmarkReport,
    BoardSettings,
    benchmark_report,
    read_benchmark,
    write_benchmark_report,
)

CATEGORIES = ("harbour", "kitchen", "sums")
SKILL = {"teacher": 8, "student": 6, "student-q4": 5}
QUICK = BoardSettings(num_resamples=200, num_fits=50, baseline=None)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_benchmark(folder: Path, *, text: str = "plain") -> Path:
    """`text` stands wherever a model or a judge speaks, and in names of categories.

    Known by hand: `student` is unscored on question 3, turn 2, and ambiguous on question 4, turn 1; `student-q4` has no
    row on question 8, turn 2; in pairs of `student` and `teacher` the orders disagree on question 1, and game 2 of
    question 2, turn 1, has no verdict.
    """
    rng = random.Random(5)
    questions = range(1, 16)
    write_rows(
        folder / "question.jsonl",
        (
            {
                "question_id": number,
                "category": CATEGORIES[number % 3],
                "turns": [f"What is the tide of day {number}? {text}", "And of the day after?"],
                "reference": [f"Low at {number} o'clock. {text}", "An hour later."],
            }
            for number in questions
        ),
    )
    for model, skill in SKILL.items():
        words = "The water is low in the morning and high at noon. " * skill
        write_rows(
            folder / "model_answer" / f"{model}.jsonl",
            (
                {
                    "question_id": number,
                    "answer_id": f"{model}-{number}",
                    "model_id": model,
                    "choices": [{"index": 0, "turns": [f"{words}{text}", "" if number == 7 else f"Later. {text}"]}],
                    "tstamp": 0.0,
                }
                for number in questions
            ),
        )
    for judge, shift in (("judge-one", 0), ("judge-two", 1)):
        rows = []
        for model, skill in SKILL.items():
            for number in questions:
                for turn in (1, 2):
                    if (model, number, turn) == ("student-q4", 8, 2):
                        continue
                    score = min(
                        10, max(1, skill + shift * rng.choice((0, 0, 1)) + rng.choice((-1, 0, 0, 1)) - turn + 1)
                    )
                    reply = f"{text} A fair answer.\n\nRating: [[{score}]]"
                    if (model, number, turn) == ("student", 3, 2):
                        reply = f"{text} I cannot rate this: arr[0] is not a time."
                    if (model, number, turn) == ("student", 4, 1):
                        reply = f"{text} At first [[3]], but then [[{score}]]"
                    stored = -1 if (model, number, turn) == ("student", 3, 2) else score
                    rows.append(single_row(judge, model, number, turn, reply, stored))
        write_rows(folder / "model_judgment" / f"{judge}_single.jsonl", rows)
    pairs = [("student", "teacher"), ("student-q4", "student"), ("student-q4", "teacher")]
    rows = []
    for first, second in pairs:
        for number in questions:
            for turn in (1, 2):
                label = rng.choice("AABC") if SKILL[first] > SKILL[second] else rng.choice("BBBCA")
                swapped = {"A": "B", "B": "A", "C": "C"}[label]
                if (first, second, number) == ("student", "teacher", 1):
                    label = swapped = "A"
                replies = [f"{text} [[{label}]]", f"{text} [[{swapped}]]"]
                if (first, second, number, turn) == ("student", "teacher", 2, 1):
                    replies[1] = f"{text} both are fine"
                rows.append(pair_row("judge-one", first, second, number, turn, replies))
    write_rows(folder / "model_judgment" / "judge-one_pair.jsonl", rows)
    for mode in ("single", "pair"):
        side = folder / "model_judgment" / f"judge-one_{mode}.meta.json"
        side.write_text(json.dumps({"format": "distill-judging", "reference_set": "by hand", "note": text}))
    return folder


def single_row(judge: str, model: str, number: int, turn: int, reply: str, score: int = -1) -> dict[str, object]:
    return {
        "question_id": number,
        "model": model,
        "judge": [judge, "single-v1" if turn == 1 else "single-v1-multi-turn"],
        "user_prompt": f"{model} {number} {turn}",
        "judgment": reply,
        "score": score,
        "turn": turn,
        "tstamp": 0.0,
    }


def pair_row(judge: str, first: str, second: str, number: int, turn: int, replies: list[str]) -> dict[str, object]:
    return {
        "question_id": number,
        "model_1": first,
        "model_2": second,
        "g1_winner": "tie",
        "g2_winner": "tie",
        "judge": [judge, "pair-v2"],
        "g1_user_prompt": f"{first} {second} {number} {turn}",
        "g1_judgment": replies[0],
        "g2_user_prompt": f"{second} {first} {number} {turn}",
        "g2_judgment": replies[1],
        "turn": turn,
        "tstamp": 0.0,
    }


class Elements(HTMLParser):
    """What a browser would make of a page: elements, attributes, ids, text by element."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.elements if name in (attributes.get("class") or "").split()]


@pytest.fixture(scope="session")
def elements() -> type[Elements]:
    return Elements


@pytest.fixture(scope="session")
def make_benchmark() -> Callable[..., Path]:
    return write_benchmark


@pytest.fixture(scope="session")
def judgment_rows() -> tuple[Callable[..., dict[str, object]], Callable[..., dict[str, object]]]:
    return single_row, pair_row


@pytest.fixture(scope="session")
def quick() -> BoardSettings:
    return QUICK


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return read_benchmark(write_benchmark(tmp_path_factory.mktemp("judged") / "tides"))


@pytest.fixture(scope="session")
def report(benchmark: Benchmark) -> BenchmarkReport:
    settings = QUICK.model_copy(update={"compat": True})
    return benchmark_report(benchmark, settings=settings, created="2026-11-22")


@pytest.fixture(scope="session")
def page_path(report: BenchmarkReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_benchmark_report(path, report)
    return path
