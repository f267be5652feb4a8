"""Reference answers a judge is shown: FastChat's `reference_answer/<name>.jsonl`, or questions that bring their own."""

from pathlib import Path

from distill.errors import DataError
from distill.files import read_jsonl
from eval.mt_bench.answer_rows import answer_row_from
from eval.mt_bench.questions import question_from


def read_references(path: Path) -> dict[int, tuple[str, ...]]:
    """The reference answers of a set by question id, one text for each turn.

    Args:
        path: an answer file (the first choice, the last row of an id count), or a file of questions, whose field
            `reference` then is the answer; questions without one are left out.

    Raises:
        DataError: the file is missing, a row is neither, or no row has a reference; names file and line.
    """
    references: dict[int, tuple[str, ...]] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        if "choices" in row or "turns" not in row:
            answer = answer_row_from(row, where=where, stem=path.stem)
            references[answer.question_id] = answer.choices[0].turns
        elif row.get("reference"):
            question = question_from(row, where=where)
            references[question.question_id] = question.reference
    if not references:
        raise DataError(f"{path} holds no reference answer", why="a judge could not be guided", fix="name another file")
    return references
