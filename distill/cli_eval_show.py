"""`distill eval show`, `compare`, `rate` and `agree`: what verdicts say, and how far they can be trusted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.cli_eval_options import (
    DATA,
    BenchOption,
    DataOption,
    FailureRateOption,
    JsonOption,
    JudgeNamesOption,
    ModelListOption,
    ReferencesOption,
    SeedOption,
    listed,
)
from distill.cli_output import is_main_rank, print_facts, print_object, print_table
from distill.errors import RecipeError

if TYPE_CHECKING:
    from eval.mt_bench.board import Benchmark

ResamplesOption = Annotated[int, typer.Option(min=100, help="bootstrap means that each interval is read from")]
OneJudgeOption = Annotated[
    str | None, typer.Option("--judge", metavar="NAME", help="whose verdicts; may be left out where there is one judge")
]


def show(
    bench: BenchOption = "two_turns",
    data: DataOption = DATA,
    judge: JudgeNamesOption = None,
    model_list: ModelListOption = None,
    baseline_model: Annotated[str | None, typer.Option(help="pairs: only comparisons with this model")] = None,
    references: ReferencesOption = None,
    compat: Annotated[
        str | None, typer.Option(metavar="fastchat", help="FastChat's own numbers beside, failures dropped as it does")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="warns of a judge that is this model's kin")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="write the page and its JSON twin")] = None,
    resamples: ResamplesOption = 10_000,
    seed: SeedOption = 0,
    max_failure_rate: FailureRateOption = 0.02,
    as_json: JsonOption = False,
) -> None:
    """Tables of scores, win rates, agreement and bias, each with its interval; --report writes the page."""
    if compat not in (None, "fastchat"):
        raise RecipeError(f"--compat is {compat}", why="fastchat is known", fix="--compat fastchat")
    from eval.mt_bench.board import (
        BoardSettings,
        all_tables,
        benchmark_report,
        scoreboard,
        warnings_of,
        write_benchmark_report,
    )
    from eval.mt_bench.failures import require_few_failures
    from eval.mt_bench.shown import failing_tables

    read = _read(bench, data, judges=listed(judge), models=listed(model_list), references=references)
    settings = BoardSettings(
        seed=seed, num_resamples=resamples, compat=compat is not None, baseline=baseline_model, teacher=teacher
    )
    if report is None:
        board = scoreboard(read, settings=settings)
    else:
        page = benchmark_report(read, settings=settings)
        write_benchmark_report(report, page)
        board = page.board
    if as_json:
        print_object(board.model_dump(mode="json"))
    else:
        for table in all_tables(board):
            print_table(table.title, table.rows, as_json=False)
            _print_lines(table.notes)
        _print_lines(warnings_of(board))
        _print_lines([] if report is None else [f"report: {report}"])
    require_few_failures(failing_tables(board), max_failure_rate=max_failure_rate)


def compare(
    first: Annotated[str, typer.Argument(metavar="MODEL", help="the id of the model in question")],
    second: Annotated[str, typer.Argument(metavar="AGAINST", help="the id it is held against")],
    bench: BenchOption = "two_turns",
    data: DataOption = DATA,
    judge: OneJudgeOption = None,
    fail_if_worse: Annotated[
        float | None, typer.Option(metavar="POINTS", help="exit code 3 where its mean is lower by more than this")
    ] = None,
    resamples: ResamplesOption = 10_000,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """The difference of two models' single scores, paired by question, with its interval."""
    from eval.mt_bench.board import BoardSettings
    from eval.mt_bench.regression import compare_models, require_not_worse

    read = _read(bench, data)
    name = _one_judge(judge, list(read.single), mode="single")
    settings = BoardSettings(seed=seed, num_resamples=resamples)
    found = compare_models(read.single[name], first, second, settings=settings)
    difference = found.paired.difference
    facts = {
        "judge": name,
        f"{first} - {second}, points": difference.mean,
        "95 % from": difference.low,
        "to": difference.high,
        "p, sign flips of questions": found.paired.p_value,
        "found four times out of five": found.smallest_detectable,
        "turns compared": found.num_compared,
        "turns without a score of both": found.num_left_out,
    }
    print_facts(f"{first} against {second}", facts, as_json=as_json)
    if fail_if_worse is not None:
        require_not_worse(found, by=fail_if_worse)


def rate(
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="the id of the student's answers")],
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="the id of the teacher's")],
    bench: BenchOption = "two_turns",
    data: DataOption = DATA,
    judge: OneJudgeOption = None,
    train: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="conversations trained on: no question may be among them")
    ] = None,
    averaged: Annotated[
        bool, typer.Option("--averaged", help="the mean of both orders, not a tie where they disagree")
    ] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """The preference rate, wins less losses, of a student against its teacher by a judge's pairs."""
    from eval.leakage import require_no_leakage
    from eval.mt_bench.rate import RateRequest, leakage_of, rate_from, rate_rows, training_conversations

    read = _read(bench, data)
    leakage = None if not train else leakage_of(read.questions, training_conversations(train))
    if leakage is not None:
        require_no_leakage(leakage)
    name = _one_judge(judge, list(read.pair), mode="pairwise-all")
    request = RateRequest(student, teacher, seed, "averaged" if averaged else "conservative")
    rows = rate_rows(rate_from(read, name, request), judge=name, leakage=leakage)
    print_table(f"preference rate of {student} against {teacher}", rows, as_json=as_json)


def agree(
    votes: Annotated[
        list[Path] | None, typer.Argument(metavar="[VOTES ...]", help="files of votes; the benchmark's by default")
    ] = None,
    bench: BenchOption = "mt_bench",
    data: DataOption = DATA,
    against: Annotated[str, typer.Option(help="kind of judge that the others are held against")] = "human",
    as_json: JsonOption = False,
) -> None:
    """How often judges agree with people, and people with each other: table 5 of Zheng et al. 2023."""
    from eval.mt_bench.folder import open_bench
    from eval.mt_bench.judge_votes import agreement_rows, votes_in

    found = votes_in(votes or (), None if votes else open_bench(bench, data=data))
    print_table(f"agreement over {len(found)} votes", agreement_rows(found, against=against), as_json=as_json)


def _read(
    bench: str, data: Path, *, judges: tuple[str, ...] = (), models: tuple[str, ...] = (), references: str | None = None
) -> "Benchmark":
    """The judged benchmark."""
    from eval.mt_bench.board import read_benchmark
    from eval.mt_bench.folder import open_bench

    folder = open_bench(bench, data=data)
    chosen = None if references is None else folder.references(references)
    return read_benchmark(
        folder.folder,
        questions=folder.questions,
        references=None if chosen is None else chosen.path,
        prompts=folder.prompts,
        judges=judges,
        models=models,
    )


def _one_judge(name: str | None, known: list[str], *, mode: str) -> str:
    """The judge that is meant.

    Raises:
        RecipeError: it is not there, or there are several and none was named.
    """
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        if not known:
            raise RecipeError(f"no judge has judged here in mode {mode}", fix=f"distill eval judge --mode {mode} first")
        problem = "several judges" if name is None else f"--judge is {name}"
        raise RecipeError(
            f"{problem}; there are: {', '.join(known)}",
            why="verdicts of different judges are not mixed",
            fix=f"--judge {known[0]}",
        )
    assert name is not None
    return name


def _print_lines(lines: "tuple[str, ...] | list[str]") -> None:
    if is_main_rank():
        for line in lines:
            print(line)
