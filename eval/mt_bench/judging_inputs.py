"""All that a judge is to see, read from a benchmark's folder and the files beside it, with their checksums."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from distill.errors import DataError
from distill.files import sha256_of_file
from eval.mt_bench.answer_rows import AnswerRow, read_answer_rows
from eval.mt_bench.judge_prompts import JudgePrompt, read_judge_prompts
from eval.mt_bench.layout import answer_files
from eval.mt_bench.questions import Question, read_questions
from eval.mt_bench.references import read_references


@dataclass(frozen=True)
class JudgingInputs:
    """Questions, answers by model and question, prompts by name, references; `sha256` of each file by its part."""

    questions: tuple[Question, ...]
    answers: dict[str, dict[int, AnswerRow]]
    prompts: dict[str, JudgePrompt]
    references: dict[int, tuple[str, ...]]
    reference_set: str | None
    sha256: dict[str, str]


def read_judging_inputs(
    folder: Path,
    *,
    questions: Path,
    prompts: Path,
    references: Path | None,
    reference_set: str | None = None,
    models: Collection[str] = (),
) -> JudgingInputs:
    """Reads what is to be judged.

    Args:
        folder: of the benchmark; answers stand in its `model_answer`.
        questions: a `question.jsonl`.
        prompts: a `judge_prompts.jsonl`.
        references: an answer file or a file of questions with references; None: judge without.
        reference_set: the name of the references in the score's key; the file's own by default.
        models: whose answers; all by default.

    Raises:
        DataError: a file is missing or wrong, or a model has no answers; names it.
    """
    files = answer_files(folder)
    unknown = sorted(set(models) - files.keys())
    if unknown:
        raise DataError(
            f"{folder} holds no answers of {', '.join(unknown)}", why=f"there are: {', '.join(files)}", fix="name these"
        )
    files = {model: path for model, path in files.items() if not models or model in models}
    sha256 = {"questions": sha256_of_file(questions), "prompts": sha256_of_file(prompts)}
    if references is not None:
        sha256["references"] = sha256_of_file(references)
    sha256 |= {f"answers of {model}": sha256_of_file(path) for model, path in files.items()}
    return JudgingInputs(
        questions=tuple(read_questions(questions)),
        answers={model: {row.question_id: row for row in read_answer_rows(path)} for model, path in files.items()},
        prompts=read_judge_prompts(prompts),
        references={} if references is None else read_references(references),
        reference_set=None if references is None else reference_set or references.stem,
        sha256=sha256,
    )
