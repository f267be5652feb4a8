"""A judged benchmark's folder, read for showing: questions, answers, judgments by judge, and how they were made."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from distill.errors import DataError
from distill.files import read_json
from eval.mt_bench.answers import read_answers
from eval.mt_bench.judge_prompts import read_judge_prompts
from eval.mt_bench.judgments import PairJudgment, SingleJudgment, read_pair, read_single
from eval.mt_bench.layout import answer_files
from eval.mt_bench.prompt_sets import FASTCHAT_NAMES, SUFFIXES, Mode
from eval.mt_bench.questions import Question, read_questions
from eval.mt_bench.references import read_references
from eval.mt_bench.repeats import Repeated, read_repeats, repeats_file

NOT_RECORDED = "not recorded"
NO_REFERENCES = "none"

Row = TypeVar("Row", SingleJudgment, PairJudgment)


@dataclass(frozen=True)
class Benchmark:
    """What stands in a benchmark's folder.

    `answers` by model and question, a text for each turn; `single` and `pair` hold the judgments by judge;
    `provenance` the side files of the judgments by mode and judge, where there are some; `output_formats` those of the
    judge prompts by name, where they were given; `repeats` all verdicts by mode and judge, where it was asked again.
    """

    name: str
    questions: tuple[Question, ...]
    answers: Mapping[str, Mapping[int, tuple[str, ...]]]
    single: Mapping[str, tuple[SingleJudgment, ...]]
    pair: Mapping[str, tuple[PairJudgment, ...]]
    provenance: Mapping[tuple[str, str], Mapping[str, object]] = field(default_factory=dict)
    references: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    output_formats: Mapping[str, str] = field(default_factory=dict)
    repeats: Mapping[tuple[str, str], tuple[Repeated, ...]] = field(default_factory=dict)

    def characters(self) -> dict[tuple[str, int, int], int]:
        """Length of each answer by model, question and turn (from 1)."""
        return {
            (model, question, turn): len(text)
            for model, by_question in self.answers.items()
            for question, texts in by_question.items()
            for turn, text in enumerate(texts, start=1)
        }

    def reference_set(self, mode: Mode, judge: str) -> str:
        """The name of the references that a judge was shown, as its side file tells it."""
        told = self.provenance.get((mode, judge), {})
        if "reference_set" not in told:
            return NOT_RECORDED
        return NO_REFERENCES if told["reference_set"] is None else str(told["reference_set"])


def read_benchmark(
    folder: Path,
    *,
    questions: Path | None = None,
    references: Path | None = None,
    prompts: Path | None = None,
    judges: Collection[str] = (),
    models: Collection[str] = (),
) -> Benchmark:
    """Reads a benchmark's folder.

    Args:
        folder: holds `model_judgment` and, for lengths and texts, `model_answer`.
        questions: the question file; `question.jsonl` of the folder by default.
        references: reference answers to show beside the questions; their own by default.
        prompts: the judge prompts, needed only where pairs were judged in another format than `[[A]]`.
        judges: whose judgments; all by default.
        models: whose answers; rows that name another model are left out; all by default.

    Raises:
        DataError: a file is missing or wrong, nothing was judged, or a judge or model is not there; names it.
    """
    asked = read_questions(questions or folder / "question.jsonl")
    single, single_told, single_again = _judged(folder, "single", read_single)
    pair, pair_told, pair_again = _judged(folder, "pair", read_pair)
    if not single and not pair:
        raise DataError(
            f"{folder / 'model_judgment'} holds no *_single.jsonl and no *_pair.jsonl",
            why="there is nothing to show",
            fix="judge the answers first: distill eval judge",
        )
    _require_known("judge", judges, {*single, *pair})
    known = {row.model for rows in single.values() for row in rows}
    known |= {name for rows in pair.values() for row in rows for name in (row.model_1, row.model_2)}
    _require_known("model", models, known)
    files = answer_files(folder) if (folder / "model_answer").is_dir() else {}
    shown = set(models) or known
    own = {} if references is None else read_references(references)
    kept_single = {name: tuple(row for row in rows if row.model in shown) for name, rows in single.items()}
    kept_pair = {
        name: tuple(row for row in rows if row.model_1 in shown and row.model_2 in shown) for name, rows in pair.items()
    }
    return Benchmark(
        name=folder.resolve().name,
        questions=tuple(asked),
        answers={model: read_answers(path) for model, path in files.items() if model in shown},
        single={name: rows for name, rows in kept_single.items() if rows and (not judges or name in judges)},
        pair={name: rows for name, rows in kept_pair.items() if rows and (not judges or name in judges)},
        provenance=single_told | pair_told,
        references={question.question_id: question.reference for question in asked if question.reference} | own,
        output_formats={}
        if prompts is None
        else {p.name: p.output_format for p in read_judge_prompts(prompts).values()},
        repeats={
            key: tuple(row for row in rows if shown.issuperset(row.models))
            for key, rows in (single_again | pair_again).items()
        },
    )


def prompt_sets_of(rows: Iterable[SingleJudgment | PairJudgment]) -> str:
    """The judge prompts that rows name, each set once and by its first prompt, joined by `+`."""
    bases = {name: base for base, names in FASTCHAT_NAMES.items() for name in names}
    used = {row.judge[1] for row in rows if row.judge and len(row.judge) > 1}
    sets = {bases.get(name) or _without_suffix(name) for name in used}
    return "+".join(sorted(sets)) or NOT_RECORDED


def _without_suffix(name: str) -> str:
    longest_first = sorted(filter(None, SUFFIXES), key=len, reverse=True)
    return next((name.removesuffix(suffix) for suffix in longest_first if name.endswith(suffix)), name)


def _judged(
    folder: Path, mode: Mode, read: Callable[[Path], list[Row]]
) -> tuple[
    dict[str, list[Row]], dict[tuple[str, str], Mapping[str, object]], dict[tuple[str, str], tuple[Repeated, ...]]
]:
    """Rows by judge, side files and repeats by mode and judge; a row without a judge is of the one that names its file.

    Raises:
        DataError: a file is wrong, or two files hold judgments of one judge.
    """
    by_judge: dict[str, list[Row]] = {}
    told: dict[tuple[str, str], Mapping[str, object]] = {}
    again: dict[tuple[str, str], tuple[Repeated, ...]] = {}
    source: dict[str, Path] = {}
    for path in sorted((folder / "model_judgment").glob(f"*_{mode}.jsonl")):
        named = path.name.removesuffix(f"_{mode}.jsonl")
        side = path.with_suffix(".meta.json")
        provenance = read_json(side) if side.exists() else None
        repeats = tuple(read_repeats(repeats_file(path)))
        for row in read(path):
            judged = row if row.judge else dataclasses.replace(row, judge=(named,))
            judge = judged.judge_name
            if source.setdefault(judge, path) != path:
                raise DataError(
                    f"{source[judge]} and {path} both hold judgments of {judge}",
                    why="which of them count is not known",
                    fix="move one of the two files out of the folder",
                )
            by_judge.setdefault(judge, []).append(judged)
            if provenance is not None:
                told[mode, judge] = provenance
            if repeats:
                again[mode, judge] = repeats
    return by_judge, told, again


def _require_known(what: str, wanted: Collection[str], known: Collection[str]) -> None:
    unknown = sorted(set(wanted) - set(known))
    if unknown:
        raise DataError(
            f"no judgment names the {what} {', '.join(unknown)}",
            why=f"there are: {', '.join(sorted(known))}",
            fix="name these",
        )
