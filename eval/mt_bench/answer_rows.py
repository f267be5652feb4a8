"""The rows of FastChat's answer files as they stand, whoever wrote them: several choices, fields of their own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distill.errors import DataError
from distill.files import read_jsonl, write_jsonl


@dataclass(frozen=True)
class Choice:
    """One try at a question, a text for each turn; judges read the first choice only."""

    index: int
    turns: tuple[str, ...]
    extra: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The object of FastChat's file."""
        return {"index": self.index, "turns": list(self.turns), **self.extra}


@dataclass(frozen=True)
class AnswerRow:
    """One line of `model_answer/<model>.jsonl` or `reference_answer/<judge>.jsonl`."""

    question_id: int
    answer_id: str
    model_id: str
    choices: tuple[Choice, ...]
    tstamp: float
    extra: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The row of FastChat's file."""
        return {
            "question_id": self.question_id,
            "answer_id": self.answer_id,
            "model_id": self.model_id,
            "choices": [choice.to_json() for choice in self.choices],
            "tstamp": self.tstamp,
            **self.extra,
        }


def read_answer_rows(path: Path) -> list[AnswerRow]:
    """Reads an answer file in its order, repeated questions too.

    Raises:
        DataError: the file is missing or a row is no answer; names file and line.
    """
    return [answer_row_from(row, where=f"{path}:{number}", stem=path.stem) for number, row in read_jsonl(path)]


def write_answer_rows(path: Path, rows: Iterable[AnswerRow]) -> None:
    """Writes an answer file in order of question id, the last row of each, as FastChat leaves it."""
    last = {row.question_id: row for row in rows}
    write_jsonl(path, (last[question_id].to_json() for question_id in sorted(last)))


def answer_row_from(row: Mapping[str, object], *, where: str, stem: str) -> AnswerRow:
    """Validates one row; `where` leads every message, `stem` names the model where the row does not.

    Raises:
        DataError: the question or the choices are missing or of the wrong kind.
    """
    question_id, tstamp, choices = row.get("question_id"), row.get("tstamp", 0.0), row.get("choices")
    if not isinstance(question_id, int) or isinstance(question_id, bool):
        raise DataError(f"{where}: question_id is {question_id!r:.60}", why="a whole number was expected")
    if not isinstance(tstamp, int | float):
        raise DataError(f"{where}: tstamp is {tstamp!r:.60}", why="seconds since 1970 were expected")
    if not isinstance(choices, list) or not choices:
        raise DataError(f"{where}: choices is {choices!r:.60}", why="a list of at least one choice was expected")
    known = ("question_id", "answer_id", "model_id", "choices", "tstamp")
    return AnswerRow(
        question_id,
        str(row.get("answer_id", "")),
        str(row.get("model_id", stem)),
        tuple(_choice_from(choice, position, where=where) for position, choice in enumerate(choices)),
        tstamp,
        {name: value for name, value in row.items() if name not in known},
    )


def _choice_from(choice: object, position: int, *, where: str) -> Choice:
    turns = choice.get("turns") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(turns, list) or not all(isinstance(t, str) for t in turns):
        raise DataError(f"{where}: choices[{position}].turns is {turns!r:.60}", why="a list of texts was expected")
    index = choice.get("index", position)
    if not isinstance(index, int):
        raise DataError(f"{where}: choices[{position}].index is {index!r:.60}", why="a whole number was expected")
    extra = {str(name): value for name, value in choice.items() if name not in ("index", "turns")}
    return Choice(index, tuple(turns), extra)
