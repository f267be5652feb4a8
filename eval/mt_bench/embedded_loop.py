"""The whole judging loop on the embedded world, offline: a run's models answer, three judges judge, a page is written.

`python -m eval.mt_bench.embedded_loop runs/quickstart --out runs/embedded-bench`. Teacher, student and the student's
Q8_0 file answer 80 questions of two turns; the teacher as a logit judge, a reward model on the teacher's states and the
checker judge every answer and both orders of every comparison with the teacher. A second call does what is missing.
"""

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from distill.errors import DataError, DistillError, GateError
from distill.files import write_json
from distill.models import LoadedModel, load_model
from eval.judges import Judge, LogitJudge, MockJudge, MockSettings, RewardJudge
from eval.judges.fitted_reward import fitted_reward
from eval.mt_bench.answer_bench import AnswerRequest, answer_bench
from eval.mt_bench.answering import LoadingOptions, NamedModel, opened_model
from eval.mt_bench.bench_matches import JudgingRequest, matches_of
from eval.mt_bench.board import Scoreboard, all_tables, read_benchmark, write_benchmark_report
from eval.mt_bench.embedded_figures import EmbeddedBench
from eval.mt_bench.embedded_page import CHECKER, checks_of, embedded_figures, embedded_page, first_questions
from eval.mt_bench.folder import BenchFolder, open_bench, prompts_file
from eval.mt_bench.judging import judge_matches
from eval.mt_bench.questions import read_questions
from eval.published import published_benchmark
from eval.speed.figures import markdown_table

log = logging.getLogger(__name__)

TEACHER, STUDENT, QUANTIZED = "teacher", "student", "student-q8_0"
MODELS = (TEACHER, STUDENT, QUANTIZED)
MAX_NEW_TOKENS = 48
PACKAGES = ("torch", "transformers", "xllamacpp")


@dataclass(frozen=True)
class LoopRequest:
    """What the loop is run on.

    Attributes:
        run_folder: a finished run of a recipe with an export to gguf-q8_0.
        output: answers, judgments, reward model, page and figures.
        teacher: `embedded` or a model folder; it answers, and both model judges are made of it.
        num_questions: the first of the 80; at least two.
        num_dialogues: that the reward model is fitted on.
        num_held_out: dialogues that it is measured on.
        num_resamples: bootstrap means of each interval.
    """

    run_folder: Path
    output: Path
    teacher: str = "embedded"
    num_questions: int = 80
    num_dialogues: int = 400
    num_held_out: int = 150
    num_resamples: int = 10_000


@dataclass
class LoopResult:
    """What the loop left behind; `num_asked` counts the calls that judges were asked now, by judge and mode."""

    bench: BenchFolder
    report: Path
    figures: EmbeddedBench
    board: Scoreboard
    num_asked: dict[str, int]
    missed: list[GateError] = field(default_factory=list)


class Stopwatch:
    """Wall-clock seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Adds the time inside to a part."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def run_loop(request: LoopRequest) -> LoopResult:
    """Does what is missing of the loop, and writes the page anew.

    Raises:
        DataError: the run holds no student or no Q8_0 file.
        DistillError: what answering and judging refuse. A missed gate is kept in the result: the page stands.
    """
    sources = models_of(request)
    bench, clock = open_bench("embedded", data=request.output), Stopwatch()
    first = read_questions(bench.questions)[0]
    options = LoadingOptions(device="cpu", max_new_tokens=MAX_NEW_TOKENS)
    with clock.part("answers"):
        for model in sources:
            with opened_model(model.source, first, options) as opened:
                asked = AnswerRequest(end=request.num_questions, max_new_tokens=MAX_NEW_TOKENS)
                answer_bench(bench, model, opened, asked)
    with clock.part("reward model"):
        body = load_model(request.teacher, device="cpu")
        folder = request.output / "reward_model"
        reward, fit = fitted_reward(
            body, folder, num_dialogues=request.num_dialogues, num_held_out=request.num_held_out
        )
    judges = opened_judges(body, RewardJudge(reward, name="embedded"))
    num_asked, missed = {}, []
    for judge in judges:
        with clock.part(judge.name):
            for judging in _judgings(request):
                matches, told = matches_of(bench, judging)
                try:
                    judged = judge_matches(judge, matches.judged, bench.folder, provenance=told)
                except GateError as error:
                    missed.append(error)
                else:
                    num_asked[f"{judge.name} {judging.file_mode}"] = judged.num_asked
    with clock.part("page"):
        read = first_questions(read_benchmark(bench.folder, prompts=prompts_file("short")), request.num_questions)
        checks = checks_of(read, models=MODELS, baseline=TEACHER)
        page = embedded_page(read, checks, num_resamples=request.num_resamples, baseline=TEACHER, model=STUDENT)
        report = request.output / "report.html"
        write_benchmark_report(report, page)
    judged_by = tuple(judge.name for judge in judges if judge.name != CHECKER)
    figures = embedded_figures(read, page.board, checks, fit=fit, judges=judged_by, seconds=clock.seconds)
    return LoopResult(bench, report, figures, page.board, num_asked, missed)


def models_of(request: LoopRequest) -> list[NamedModel]:
    """Teacher, student and Q8_0 student.

    Raises:
        DataError: a file of the run is missing; names it.
    """
    student, quantized = (request.run_folder / part for part in ("train/model", "export/gguf-q8_0"))
    for path in (student, quantized):
        if not path.is_dir():
            raise DataError(
                f"{path} does not exist",
                why="the loop judges a finished run: its student, and its student as a Q8_0 file",
                fix="distill run recipes/quickstart.yaml, then name its folder",
            )
    return [
        NamedModel(TEACHER, request.teacher),
        NamedModel(STUDENT, str(student)),
        NamedModel(QUANTIZED, str(quantized)),
    ]


def opened_judges(body: LoadedModel, reward: RewardJudge) -> list[Judge]:
    """The three judges: the teacher by its next-token probabilities, a reward model, and the checker."""
    return [LogitJudge(body, name="embedded"), reward, MockJudge(MockSettings(rule="oracle"), name=CHECKER)]


def _judgings(request: LoopRequest) -> list[JudgingRequest]:
    """Single scores with the student's canaries, then comparisons with the teacher."""
    common = JudgingRequest(
        models=MODELS,
        baseline=TEACHER,
        prompts=prompts_file("short"),
        first_n=request.num_questions,
    )
    return [replace(common, mode="single", canaries_of=(STUDENT,)), replace(common, mode="pairwise-baseline")]


def main(words: Sequence[str] | None = None) -> None:
    """Runs the loop, prints its tables, and leaves with 2 where it was refused, 3 where a judge missed a gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path, help="a finished run with an export to gguf-q8_0")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--teacher", default="embedded", help="embedded, or a model folder")
    parser.add_argument("--questions", type=int, default=80, metavar="N", help="the first N of the 80, at least 2")
    given = parser.parse_args(words)
    if not 2 <= given.questions <= 80:
        parser.error(f"--questions is {given.questions}; from 2 to 80 was expected")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start = time.perf_counter()
    try:
        result = run_loop(LoopRequest(given.run_folder, given.out, given.teacher, given.questions))
    except DistillError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    command = shlex.join(["python", "-m", "eval.mt_bench.embedded_loop", *(sys.argv[1:] if words is None else words)])
    found = published_benchmark(
        result.figures, command=command, elapsed_s=time.perf_counter() - start, packages=PACKAGES
    )
    write_json(given.out / "figures.json", found.model_dump(mode="json"))
    for table in all_tables(result.board):
        cells = [[str(cell) for cell in row.values()] for row in table.rows]
        lines = (table.title, markdown_table(tuple(table.rows[0]), cells), *table.notes)
        sys.stdout.write("\n\n".join(lines) + "\n\n")
    sys.stdout.write(f"{found.to_markdown()}\npage: {result.report}\n")
    for missed in result.missed:
        sys.stderr.write(f"error: {missed}\n")
    if result.missed:
        sys.exit(GateError.exit_code)


if __name__ == "__main__":
    main()
