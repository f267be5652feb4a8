"""A model's answers to questions, written as FastChat's `model_answer/<model_id>.jsonl`; a rerun asks only what is new.

FastChat's file stays clean: fingerprints, settings and token counts stand beside it in `<model_id>.meta.json`.
A row counts as answered when the side file holds its question's fingerprint and its `answer_id`, which is made from
the row's content, so that a crash between the two files, or an edit of either, only means asking again.
"""

import logging
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill.decoding import Generation, Generator, SamplingSettings, answer_conversations
from distill.errors import DataError, RecipeError
from distill.files import fingerprint, read_json, read_jsonl, write_json, write_jsonl
from distill.progress import tracked
from distill.settings import Settings, validated
from eval.mt_bench.questions import Question

log = logging.getLogger(__name__)

QUESTIONS_PER_BLOCK = 40


class AnsweredQuestion(Settings):
    """What the side file says of one answered question."""

    answer_id: str
    question_fingerprint: str
    num_tokens: tuple[int, ...]
    finish_reasons: tuple[Literal["stop", "length"], ...]


class AnswersManifest(Settings):
    """What a file of answers was made from; answers made from anything else are not reused."""

    format: Literal["distill-model-answers"] = "distill-model-answers"
    version: Literal[1] = 1
    model_name: str
    model_fingerprint: str
    sampling: dict[str, object]
    seed: int
    answered: Mapping[str, AnsweredQuestion] = Field(default_factory=dict)


@dataclass(frozen=True)
class ModelAnswer:
    """A model's answers to one question, one for each turn."""

    question_id: int
    model_id: str
    turns: tuple[Generation, ...]
    tstamp: float

    @property
    def answer_id(self) -> str:
        """A name made from the content: the same answers of the same model have the same id."""
        content = fingerprint([self.question_id, self.model_id, [turn.text for turn in self.turns]])
        return str(uuid.uuid5(uuid.NAMESPACE_OID, content))

    def to_json(self) -> dict[str, object]:
        """The row of FastChat's answer file."""
        return {
            "question_id": self.question_id,
            "answer_id": self.answer_id,
            "model_id": self.model_id,
            "choices": [{"index": 0, "turns": [turn.text for turn in self.turns]}],
            "tstamp": self.tstamp,
        }


def file_name_of(model_name: str) -> str:
    """The model id that names the answer file: `org/name` becomes `org__name`.

    FastChat takes the file's name for the model's, and its `*.jsonl` sees no sub-folder, which a `/` would make.

    Raises:
        RecipeError: nothing is left to name a file with.
    """
    name = re.sub(r"[^\w.+-]", "_", model_name.strip().replace("/", "__").replace("\\", "__")).lstrip(".")
    if not name.strip("_"):
        raise RecipeError(f"model id {model_name!r} cannot name a file", fix="use letters or digits")
    if name != model_name:
        log.warning(
            "answers of model %s are filed under %s: FastChat reads no folder inside model_answer", model_name, name
        )
    return name


def answer_questions(
    generator: Generator,
    questions: Sequence[Question],
    *,
    model_name: str,
    model_fingerprint: str,
    settings: SamplingSettings,
    seed: int,
    output_dir: Path,
) -> list[ModelAnswer]:
    """Answers every question, each turn on the model's own earlier answers, and writes the answer file.

    Args:
        generator: the model.
        questions: what to ask; ids are unique.
        model_name: names the answer file, see `file_name_of`.
        model_fingerprint: of the weights; answers under another fingerprint are asked again.
        settings: sampling; a question's `required_temperature` takes the temperature's place.
        seed: of the sampling.
        output_dir: the benchmark's folder; the files stand in `model_answer/`.

    Returns:
        One entry a question, in the order of `questions`. The file is in order of question id, as FastChat sorts it.
    """
    model_id = file_name_of(model_name)
    path = output_dir / "model_answer" / f"{model_id}.jsonl"
    fresh = AnswersManifest(
        model_name=model_name,
        model_fingerprint=model_fingerprint,
        sampling=settings.model_dump(mode="json", exclude={"batch_size"}),
        seed=seed,
    )
    answers = _reusable(path, fresh, questions)
    missing = [question for question in questions if question.question_id not in answers]
    log.info("%s: %d of %d questions are answered", model_id, len(questions) - len(missing), len(questions))
    with tracked(f"answers of {model_id}", len(missing)) as tracker:
        for start in range(0, len(missing), QUESTIONS_PER_BLOCK):
            block = missing[start : start + QUESTIONS_PER_BLOCK]
            for question, turns in zip(block, _ask(generator, block, settings=settings, seed=seed), strict=True):
                answers[question.question_id] = ModelAnswer(question.question_id, model_id, turns, time.time())
            _write(path, fresh, questions, answers)
            tracker.advance(len(block))
    return [answers[question.question_id] for question in questions]


def read_answers(path: Path) -> dict[int, tuple[str, ...]]:
    """The turns of an answer file by question id, FastChat's or ours: the first choice, the last row of an id.

    Raises:
        DataError: the file is missing or a row is not an answer; names file and line.
    """
    return {question_id: turns for question_id, (_, turns, _) in _rows(path).items()}


def _ask(
    generator: Generator, questions: Sequence[Question], *, settings: SamplingSettings, seed: int
) -> list[tuple[Generation, ...]]:
    """Answers a block; questions of one temperature are asked together."""
    temperatures = [
        settings.temperature if q.required_temperature is None else q.required_temperature for q in questions
    ]
    answers: dict[int, tuple[Generation, ...]] = {}
    for temperature in sorted(set(temperatures)):
        together = [i for i, value in enumerate(temperatures) if value == temperature]
        replies = answer_conversations(
            generator,
            [questions[i].to_conversation() for i in together],
            settings.model_copy(update={"temperature": temperature}),
            seed=seed,
        )
        answers.update(zip(together, replies, strict=True))
    return [answers[i] for i in range(len(questions))]


def _reusable(path: Path, fresh: AnswersManifest, questions: Sequence[Question]) -> dict[int, ModelAnswer]:
    """Answers on disk that the same model gave to the same questions under the same settings."""
    side_file = path.with_suffix(".meta.json")
    if not path.exists() or not side_file.exists():
        return {}
    manifest = validated(AnswersManifest, read_json(side_file), source=str(side_file))
    if manifest.model_copy(update={"answered": {}}) != fresh:
        log.info("%s: made by other weights or settings; asking anew", path.name)
        return {}
    rows, reusable = _rows(path), {}
    for question in questions:
        row, entry = rows.get(question.question_id), manifest.answered.get(str(question.question_id))
        if row is None or entry is None or entry.question_fingerprint != fingerprint(question.to_json()):
            continue
        model_id, texts, tstamp = row
        if not len(texts) == len(entry.num_tokens) == len(entry.finish_reasons):
            continue
        turns = zip(texts, entry.num_tokens, entry.finish_reasons, strict=True)
        answer = ModelAnswer(question.question_id, model_id, tuple(Generation(*turn) for turn in turns), tstamp)
        if answer.answer_id == entry.answer_id:
            reusable[question.question_id] = answer
    return reusable


def _write(
    path: Path, fresh: AnswersManifest, questions: Sequence[Question], answers: Mapping[int, ModelAnswer]
) -> None:
    answered = {
        str(question.question_id): AnsweredQuestion(
            answer_id=answers[question.question_id].answer_id,
            question_fingerprint=fingerprint(question.to_json()),
            num_tokens=tuple(turn.num_tokens for turn in answers[question.question_id].turns),
            finish_reasons=tuple(turn.finish_reason for turn in answers[question.question_id].turns),
        )
        for question in questions
        if question.question_id in answers
    }
    write_jsonl(path, (answers[question_id].to_json() for question_id in sorted(int(name) for name in answered)))
    manifest = fresh.model_copy(update={"answered": answered})
    write_json(path.with_suffix(".meta.json"), manifest.model_dump(mode="json"))


def _rows(path: Path) -> dict[int, tuple[str, tuple[str, ...], float]]:
    """Model id, turns and time of each row by question id."""
    rows: dict[int, tuple[str, tuple[str, ...], float]] = {}
    for number, row in read_jsonl(path):
        question_id, tstamp, turns = row.get("question_id"), row.get("tstamp", 0.0), _first_choice(row)
        if not isinstance(question_id, int) or not isinstance(tstamp, int | float) or turns is None:
            raise DataError(f"{path}:{number} is no answer", why="question_id and choices[0].turns are needed")
        rows[question_id] = (str(row.get("model_id", path.stem)), turns, float(tstamp))
    return rows


def _first_choice(row: Mapping[str, object]) -> tuple[str, ...] | None:
    """`choices[0].turns`, or None where it is no list of texts."""
    choices = row.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    turns = first.get("turns") if isinstance(first, dict) else None
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        return None
    return tuple(turns)
