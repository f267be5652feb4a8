"""From a benchmark's folder to the calls of a judge: whose answers, which mode, which prompts and references."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from distill.errors import RecipeError
from eval.canaries import CANARY_KINDS, canary_answers
from eval.judges.rubric import Rubric, rubric_prompts
from eval.mt_bench.answer_rows import AnswerRow, Choice
from eval.mt_bench.board.guards import canary_model
from eval.mt_bench.folder import BenchFolder, prompts_file
from eval.mt_bench.judging_inputs import JudgingInputs, read_judging_inputs
from eval.mt_bench.matches import Judging, Matches, all_pairs, baseline_matches, single_matches
from eval.mt_bench.prompt_sets import Mode, prompt_set
from eval.mt_bench.show import BASELINE_MODEL

JudgingMode = Literal["single", "pairwise-baseline", "pairwise-all"]
CANARY_SEED = 0


@dataclass(frozen=True)
class JudgingRequest:
    """What the user asked to be judged.

    Attributes:
        mode: FastChat's word for it.
        models: whose answers; all by default.
        baseline: of `pairwise-baseline`.
        references: name or file of a set; see `BenchFolder.references`.
        prompts: a `judge_prompts.jsonl`, or `short`; the benchmark's by default.
        prompt_set: which prompts of the file; may be left out where there is one set.
        first_n: only the first questions; all by default.
        canaries_of: models whose answers are also judged emptied, replaced and shuffled.
        later_turns: what becomes of a question of three or more turns.
        rubric: brings prompts of its own, for single answers.
    """

    mode: JudgingMode = "single"
    models: tuple[str, ...] = ()
    baseline: str = BASELINE_MODEL
    references: str | None = None
    prompts: Path | None = None
    prompt_set: str | None = None
    first_n: int | None = None
    canaries_of: tuple[str, ...] = ()
    later_turns: Literal["refuse", "skip"] = "refuse"
    rubric: Rubric | None = None

    @property
    def file_mode(self) -> Mode:
        """The mode that names the judgment file."""
        return "single" if self.mode == "single" else "pair"


def matches_of(bench: BenchFolder, request: JudgingRequest) -> tuple[Matches, dict[str, object]]:
    """All calls of a judge, and what they were made from: checksums, and what is not judged and why.

    Raises:
        RecipeError: the mode is unknown, or no set of references was chosen among several.
        DataError: a file is missing or wrong, or an answer, a prompt or a reference is lacking.
    """
    if request.mode not in get_args(JudgingMode):
        known = ", ".join(get_args(JudgingMode))
        raise RecipeError(f"--mode is {request.mode}", why=f"known are {known}", fix="--mode single")
    if request.first_n is not None and request.first_n < 1:
        raise RecipeError(f"--first-n is {request.first_n}", why="at least one question is judged", fix="--first-n 1")
    _require_rubric_alone(request)
    chosen = bench.references(request.references)
    models = _models(request)
    inputs = read_judging_inputs(
        bench.folder,
        questions=bench.questions,
        prompts=bench.prompts if request.prompts is None else prompts_file(request.prompts),
        references=None if chosen is None else chosen.path,
        reference_set=None if chosen is None else chosen.name,
        models=models,
    )
    judging = Judging(
        questions=inputs.questions[: request.first_n],
        answers=inputs.answers | _canaries(inputs, request.canaries_of),
        prompts=prompt_set(inputs.prompts, mode=request.file_mode, name=request.prompt_set)
        if request.rubric is None
        else rubric_prompts(request.rubric),
        references=inputs.references,
        reference_set=inputs.reference_set,
        later_turns=request.later_turns,
    )
    if request.mode == "single":
        matches = single_matches(judging)
    elif request.mode == "pairwise-baseline":
        matches = baseline_matches(judging, baseline=request.baseline)
    else:
        matches = all_pairs(judging)
    told: dict[str, object] = {
        "sha256": inputs.sha256,
        "not_judged": [asdict(one) for one in matches.not_judged],
        "empty_answers": [list(one) for one in matches.empty],
    }
    return matches, told


def _require_rubric_alone(request: JudgingRequest) -> None:
    if request.rubric is None:
        return
    if request.mode != "single":
        raise RecipeError(
            f"--rubric is {request.rubric.name}, and --mode {request.mode}",
            why="a rubric rates single answers",
            fix="--mode single",
        )
    if request.prompts is not None or request.prompt_set is not None:
        raise RecipeError(
            f"--rubric is {request.rubric.name}, and other judge prompts are named",
            why="a rubric brings prompts of its own",
            fix="leave --judge-file and --prompt-set out",
        )


def _models(request: JudgingRequest) -> tuple[str, ...]:
    """The models to read; the baseline is one of them."""
    if not request.models:
        return ()
    extra = (request.baseline,) if request.mode == "pairwise-baseline" else ()
    return tuple(dict.fromkeys((*request.models, *extra)))


def _canaries(inputs: JudgingInputs, models: Sequence[str]) -> dict[str, dict[int, AnswerRow]]:
    """Worthless answers in place of each model's, under ids that tables leave out."""
    canaries: dict[str, dict[int, AnswerRow]] = {}
    for model in models:
        if model not in inputs.answers:
            raise RecipeError(
                f"--canaries is {model}, whose answers are not judged",
                why=f"judged are: {', '.join(inputs.answers)}",
                fix="name one of these",
            )
        real = {question: row.choices[0].turns for question, row in inputs.answers[model].items()}
        for kind in CANARY_KINDS:
            name = canary_model(kind, of=model)
            texts = canary_answers(real, kind=kind, seed=CANARY_SEED)
            canaries[name] = {
                question: AnswerRow(question, f"{name}-{question}", name, (Choice(0, turns),), 0.0)
                for question, turns in texts.items()
            }
    return canaries
