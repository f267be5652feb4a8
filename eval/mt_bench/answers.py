"""A model's answers to questions, written as FastChat's `model_answer/<model_id>.jsonl`; a rerun asks only what is new.

FastChat's file stays clean: fingerprints, settings and token counts stand beside it in `<model_id>.meta.json`.
A row counts as answered when the side file holds its question's fingerprint and its `answer_id`, which is made from
the row's content, so that a crash between the two files, or an edit of either, only means asking again. A question
that could not be answered is listed in the side file with its error and has no row: an error is never an answer.
"""

import logging
import re
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill.decoding import Generation, Generator, SamplingSettings, answer_conversations
from distill.errors import DataError, EndpointError, RecipeError
from distill.files import fingerprint, read_json, read_jsonl, write_json, write_jsonl
from distill.progress import tracked
from distill.settings import Settings, validated
from eval.mt_bench.answer_each import AnsweredBlock, answer_each
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
    provenance: dict[str, object] = Field(default_factory=dict)
    answered: Mapping[str, AnsweredQuestion] = Field(default_factory=dict)
    failed: Mapping[str, str] = Field(default_factory=dict)


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
    provenance: Mapping[str, object] | None = None,
    parallel: int | None = None,
    only: Collection[int] | None = None,
    overwrite: bool = False,
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
        provenance: what else decides the answers, such as the chat template's hash; of another, they are asked again.
        only: ids of the questions to ask now; answers to the others are kept where they stand. None: all.
        parallel: of a server: questions under way at once, each of which may fail alone. None: asked in batches.
        overwrite: asks all of these again, and keeps the answers to the others.

    Returns:
        One entry for each answered question, in the order of `questions`. The file is in order of question id, as
        FastChat sorts it.

    Raises:
        EndpointError: questions could not be answered; all others are written, and a rerun asks the failed ones.
    """
    model_id = file_name_of(model_name)
    path = output_dir / "model_answer" / f"{model_id}.jsonl"
    fresh = AnswersManifest(
        model_name=model_name,
        model_fingerprint=model_fingerprint,
        sampling=settings.model_dump(mode="json", exclude={"batch_size"}),
        seed=seed,
        provenance=dict(provenance or {}),
    )
    asked = [q for q in questions if only is None or q.question_id in only]
    answers = _reusable(path, fresh, questions)
    if overwrite:
        answers = {number: answer for number, answer in answers.items() if only is not None and number not in only}
    missing = [question for question in asked if question.question_id not in answers]
    log.info("%s: %d of %d questions are answered, %d to ask", model_id, len(answers), len(questions), len(missing))
    failures: dict[int, str] = {}
    with tracked(f"answers of {model_id}", len(missing)) as tracker:
        for start in range(0, len(missing), QUESTIONS_PER_BLOCK):
            block = missing[start : start + QUESTIONS_PER_BLOCK]
            replies = _ask(generator, block, settings=settings, seed=seed, parallel=parallel)
            for question_id, turns in replies.answers.items():
                answers[question_id] = ModelAnswer(question_id, model_id, turns, time.time())
            failures |= replies.failures
            if answers or not path.exists():  # a server that is down leaves older answers as they stand
                _write(path, fresh, questions, answers, failures)
            tracker.advance(len(block))
            if replies.fatal is not None:
                raise replies.fatal
    if failures:
        number, error = next(iter(failures.items()))
        raise EndpointError(
            f"{len(failures)} of {len(questions)} questions have no answer of {model_id}; question {number}: {error}",
            why="an error is no answer, and is not judged as one",
            fix="the same command asks these again",
        )
    return [answers[question.question_id] for question in questions if question.question_id in answers]


def read_answers(path: Path) -> dict[int, tuple[str, ...]]:
    """The turns of an answer file by question id, FastChat's or ours: the first choice, the last row of an id.

    Raises:
        DataError: the file is missing or a row is not an answer; names file and line.
    """
    return {question_id: turns for question_id, (_, turns, _) in _rows(path).items()}


def _ask(
    generator: Generator,
    questions: Sequence[Question],
    *,
    settings: SamplingSettings,
    seed: int,
    parallel: int | None,
) -> AnsweredBlock:
    """Answers a block; in batches, questions of one temperature are asked together."""
    if parallel is not None:
        return answer_each(generator, questions, settings=settings, seed=seed, parallel=parallel)
    by_temperature: dict[float, list[Question]] = {}
    for question in questions:
        required = question.required_temperature
        by_temperature.setdefault(settings.temperature if required is None else required, []).append(question)
    answers: dict[int, tuple[Generation, ...]] = {}
    for temperature, together in sorted(by_temperature.items()):
        replies = answer_conversations(
            generator,
            [question.to_conversation() for question in together],
            settings.model_copy(update={"temperature": temperature}),
            seed=seed,
        )
        answers.update(zip((question.question_id for question in together), replies, strict=True))
    return AnsweredBlock(answers, {})


def _reusable(path: Path, fresh: AnswersManifest, questions: Sequence[Question]) -> dict[int, ModelAnswer]:
    """Answers on disk that the same model gave to the same questions under the same settings."""
    side_file = path.with_suffix(".meta.json")
    if not path.exists() or not side_file.exists():
        return {}
    manifest = validated(AnswersManifest, read_json(side_file), source=str(side_file))
    if manifest.model_copy(update={"answered": {}, "failed": {}}) != fresh:
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
    path: Path,
    fresh: AnswersManifest,
    questions: Sequence[Question],
    answers: Mapping[int, ModelAnswer],
    failures: Mapping[int, str],
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
    failed = {str(question_id): error for question_id, error in sorted(failures.items())}
    manifest = fresh.model_copy(update={"answered": answered, "failed": failed})
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
