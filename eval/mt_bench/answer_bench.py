"""A benchmark's questions answered by an opened model, at FastChat's temperatures."""

from dataclasses import dataclass
from pathlib import Path

from distill.decoding import SamplingSettings
from distill.errors import RecipeError
from eval.mt_bench.answering import NamedModel, OpenedModel
from eval.mt_bench.answers import answer_questions
from eval.mt_bench.folder import BenchFolder
from eval.mt_bench.questions import Question, read_questions
from eval.mt_bench.temperatures import MAX_NEW_TOKENS, UNKNOWN_TEMPERATURE, with_temperatures


@dataclass(frozen=True)
class AnswerRequest:
    """How questions are asked.

    Attributes:
        begin, end: the part of the question file to ask, counted from 0, `end` not included; all by default.
        forced: temperature of every question; by default its own or its category's.
        max_new_tokens: longest answer to one turn.
        batch_size: questions under way at once; changes speed only.
        seed: of the sampling.
        overwrite: ask again what is answered.
    """

    begin: int | None = None
    end: int | None = None
    forced: float | None = None
    max_new_tokens: int = MAX_NEW_TOKENS
    batch_size: int = 16
    seed: int = 0
    overwrite: bool = False


@dataclass(frozen=True)
class AnswerSummary:
    """What stands in an answer file after a run; `num_cut_off` answers reached the longest length."""

    model_id: str
    path: Path
    num_answered: int
    num_questions: int
    num_turns: int
    num_cut_off: int
    num_empty: int
    mean_tokens: float


def answer_bench(
    bench: BenchFolder, model: NamedModel, opened: OpenedModel, request: AnswerRequest | None = None
) -> AnswerSummary:
    """Answers what is not answered yet and writes the answer file.

    Raises:
        RecipeError: the part asked for holds no question, or an option is out of range.
        DataError: the question file is wrong.
        EndpointError: some questions could not be answered; the others are written.
    """
    request = request or AnswerRequest()
    questions = with_temperatures(read_questions(bench.questions), forced=request.forced)
    asked = _part(questions, request)
    path = bench.folder / "model_answer" / f"{model.model_id}.jsonl"
    answers = answer_questions(
        opened.generator,
        questions,
        model_name=model.model_id,
        model_fingerprint=opened.fingerprint,
        settings=SamplingSettings(
            temperature=UNKNOWN_TEMPERATURE, max_new_tokens=request.max_new_tokens, batch_size=request.batch_size
        ),
        seed=request.seed,
        output_dir=bench.folder,
        provenance=opened.provenance,
        parallel=opened.parallel,
        only={question.question_id for question in asked},
        overwrite=request.overwrite,
    )
    turns = [turn for answer in answers for turn in answer.turns]
    return AnswerSummary(
        model_id=model.model_id,
        path=path,
        num_answered=len(answers),
        num_questions=len(questions),
        num_turns=len(turns),
        num_cut_off=sum(turn.finish_reason == "length" for turn in turns),
        num_empty=sum(not turn.text.strip() for turn in turns),
        mean_tokens=sum(turn.num_tokens for turn in turns) / len(turns) if turns else 0.0,
    )


def _part(questions: list[Question], request: AnswerRequest) -> list[Question]:
    part = questions[request.begin : request.end]
    if not part:
        raise RecipeError(
            f"--question-begin {request.begin} --question-end {request.end} leaves none of {len(questions)} questions",
            why="they count from 0, and the end is not included",
            fix=f"--question-begin 0 --question-end {len(questions)}",
        )
    return part
