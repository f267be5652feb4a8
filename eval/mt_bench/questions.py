"""Questions in FastChat's shape: one object a line with `question_id`, `category`, `turns` and perhaps `reference`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.data.records import Conversation, Message
from distill.embedded import questions as embedded_rows
from distill.errors import DataError
from distill.files import read_jsonl, write_jsonl


@dataclass(frozen=True)
class Question:
    """A question of one or more turns; `reference` is empty where no reference answer is known.

    `system` and `facts` go beyond FastChat's fields, which ignores them: the system message to answer under,
    and what a checker needs. `required_temperature` is FastChat's: it overrides the sampling temperature.
    """

    question_id: int
    category: str
    turns: tuple[str, ...]
    reference: tuple[str, ...] = ()
    required_temperature: float | None = None
    system: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """The row of a question file; fields that say nothing are left out."""
        row: dict[str, object] = {
            "question_id": self.question_id,
            "category": self.category,
            "turns": list(self.turns),
            "reference": list(self.reference),
            "required_temperature": self.required_temperature,
            "system": self.system,
            "facts": dict(self.facts),
        }
        return {name: value for name, value in row.items() if value is not None and value != [] and value != {}}

    def to_conversation(self) -> Conversation:
        """The question as a conversation whose user turns wait for answers."""
        messages = [] if self.system is None else [Message("system", self.system)]
        messages += [Message("user", turn) for turn in self.turns]
        return Conversation(f"question-{self.question_id}", tuple(messages), self.facts)


def embedded_questions() -> list[Question]:
    """The 80 two-turn questions of the embedded world, ten in each of eight categories, with references."""
    return [question_from(row, where=f"embedded question {number}") for number, row in enumerate(embedded_rows())]


def read_questions(path: Path) -> list[Question]:
    """Reads a `question.jsonl`, FastChat's or ours.

    Raises:
        DataError: the file is missing or empty, a row is wrong, or an id stands twice; names file and line.
    """
    questions: dict[int, Question] = {}
    for number, row in read_jsonl(path):
        question = question_from(row, where=f"{path}:{number}")
        if question.question_id in questions:
            raise DataError(f"{path}:{number}: question_id {question.question_id} stands twice", fix="number it anew")
        questions[question.question_id] = question
    if not questions:
        raise DataError(f"{path} holds no question", why="there is nothing to answer", fix="name another file")
    return list(questions.values())


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Writes a `question.jsonl` that FastChat reads too."""
    write_jsonl(path, (question.to_json() for question in questions))


def question_from(row: Mapping[str, object], *, where: str) -> Question:
    """Validates one row; `where` leads every message.

    Raises:
        DataError: a field is missing or of the wrong kind, or references do not match the turns in number.
    """
    question_id, category = row.get("question_id"), row.get("category")
    if not isinstance(question_id, int) or isinstance(question_id, bool):
        raise DataError(f"{where}: question_id is {question_id!r}", why="a whole number was expected")
    if not isinstance(category, str) or not category:
        raise DataError(f"{where}: category is {category!r}", why="a name was expected")
    turns = _texts(row.get("turns"), name="turns", where=where)
    reference = _texts(row.get("reference") or [], name="reference", where=where)
    if not turns:
        raise DataError(f"{where}: turns is empty", why="there is nothing to answer")
    if reference and len(reference) != len(turns):
        raise DataError(f"{where}: {len(reference)} references for {len(turns)} turns", fix="give one for each turn")
    temperature, system, facts = row.get("required_temperature"), row.get("system"), row.get("facts") or {}
    if temperature is not None and (not isinstance(temperature, int | float) or temperature < 0):
        raise DataError(f"{where}: required_temperature is {temperature!r}", why="a number of at least 0 was expected")
    if system is not None and not isinstance(system, str):
        raise DataError(f"{where}: system is {system!r:.60}", why="text was expected")
    if not isinstance(facts, Mapping):
        raise DataError(f"{where}: facts is {facts!r:.60}", why="an object was expected")
    return Question(
        question_id,
        category,
        turns,
        reference,
        None if temperature is None else float(temperature),
        system,
        {str(name): value for name, value in facts.items()},
    )


def _texts(value: object, *, name: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(text, str) for text in value):
        raise DataError(f"{where}: {name} is {value!r:.60}", why="a list of texts was expected")
    return tuple(str(text) for text in value)
