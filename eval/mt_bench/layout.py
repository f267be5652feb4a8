"""Where FastChat's files stand in a benchmark's folder, and what a model is called there."""

from pathlib import Path
from typing import Literal

from distill.errors import DataError
from eval.mt_bench.answers import file_name_of


def answer_files(folder: Path) -> dict[str, Path]:
    """The answer files of a benchmark by model id, in the order of the ids.

    A model's id is its file's path inside `model_answer` without `.jsonl`: `org/name` where others left the `/` in
    the id, which made a sub-folder that FastChat's own programs do not look into.

    Raises:
        DataError: there is no such folder, it holds no file, or `org/name` and `org__name` both exist.
    """
    found: dict[str, Path] = {}
    named: dict[str, str] = {}
    answers = folder / "model_answer"
    for path in sorted(answers.rglob("*.jsonl")):
        model = path.relative_to(answers).with_suffix("").as_posix()
        if any(part.startswith(".") for part in path.relative_to(answers).parts):
            continue
        if (other := named.setdefault(model.replace("/", "__"), model)) != model:
            raise DataError(
                f"{answers} holds answers of {other} and of {model}",
                why="both are filed under one name",
                fix="delete one of the two files",
            )
        found[model] = path
    if not found:
        raise DataError(f"{answers} holds no *.jsonl", why="there is no answer to judge", fix="answer questions first")
    return dict(sorted(found.items()))


def judgment_file(folder: Path, judge_name: str, mode: Literal["single", "pair"]) -> Path:
    """Where a judge's verdicts stand: `model_judgment/<judge>_<mode>.jsonl`; a `/` in the judge's name becomes `__`."""
    return folder / "model_judgment" / f"{file_name_of(judge_name)}_{mode}.jsonl"
