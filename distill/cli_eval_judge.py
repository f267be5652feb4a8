"""`distill eval judge`: a judge's verdicts on answers, single or in pairs, planned, bought, resumed."""

from pathlib import Path
from typing import Annotated

import typer

from distill.cli_eval_options import (
    DATA,
    BaseUrlOption,
    BenchOption,
    DataOption,
    FailureRateOption,
    JsonOption,
    KeyOption,
    ModelListOption,
    ReferencesOption,
    listed,
)
from distill.cli_output import print_facts


def judge(
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value ...]", help="settings of the judge, such as path=DIR or temperature=0.0"),
    ] = None,
    bench: BenchOption = "two_turns",
    data: DataOption = DATA,
    kind: Annotated[
        str, typer.Option("--judge", metavar="KIND", help="endpoint, batch, replay, mock, or a local one; see docs")
    ] = "endpoint",
    judge_model: Annotated[str | None, typer.Option(help="the judge's model: a server's name, or weights")] = None,
    judge_name: Annotated[str | None, typer.Option(help="names the judgment files; the model's by default")] = None,
    base_url: BaseUrlOption = None,
    api_key_env: KeyOption = None,
    mode: Annotated[str, typer.Option(help="single, pairwise-baseline or pairwise-all")] = "single",
    baseline_model: Annotated[str, typer.Option(help="of pairwise-baseline")] = "gpt-3.5-turbo",
    model_list: ModelListOption = None,
    references: ReferencesOption = None,
    judge_file: Annotated[Path | None, typer.Option(help="judge prompts, or short; else the benchmark's")] = None,
    prompt_set: Annotated[str | None, typer.Option(help="which prompts of the file: single-v1, pair-v2 ...")] = None,
    rubric: Annotated[
        str | None, typer.Option(metavar="CRITERION", help="rate from 1 to 5 by it: correctness, clarity ...; see docs")
    ] = None,
    rubrics: Annotated[Path | None, typer.Option(metavar="FILE", help="rubrics of your own, for --rubric")] = None,
    first_n: Annotated[int | None, typer.Option(help="only the first questions")] = None,
    skip_later_turns: Annotated[
        bool, typer.Option("--skip-later-turns", help="of a question of three or more turns judge the first only")
    ] = False,
    canaries: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="also judge this model's answers emptied and shuffled")
    ] = None,
    judge_repeats: Annotated[int, typer.Option(help="how often each call is made")] = 1,
    parallel: Annotated[int | None, typer.Option(min=1, help="requests under way at once")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="ask again what has no verdict")] = False,
    max_failure_rate: FailureRateOption = 0.02,
    prices: Annotated[Path | None, typer.Option(help="YAML: date, currency, per_million_tokens")] = None,
    max_cost: Annotated[
        float | None, typer.Option(min=0.0, help="no call that could take the run over it is begun")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print calls, tokens and cost; ask nothing")] = False,
    batch_out: Annotated[Path | None, typer.Option(help="batch: write the requests to this file")] = None,
    sheet_out: Annotated[Path | None, typer.Option(help="people: write a blind sheet of pairs, .html or .csv")] = None,
    labels: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="LABELS KEY", help="people: read a filled sheet with its key")
    ] = None,
    seed: Annotated[int, typer.Option(help="people: shuffles the sheet")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge every turn that is not judged yet; pairs always in both orders."""
    from eval.mt_bench.bench_matches import JudgingRequest
    from eval.mt_bench.folder import open_bench
    from eval.mt_bench.judge_choice import JudgeChoice, as_mode, rubric_of
    from eval.mt_bench.run_judge import JudgingRun, read_human_labels, write_human_sheet

    criterion = rubric_of(rubric, rubrics)
    folder = open_bench(bench, data=data)
    request = JudgingRequest(
        mode=as_mode(mode),
        models=listed(model_list),
        baseline=baseline_model,
        references=references,
        prompts=judge_file,
        prompt_set=prompt_set,
        first_n=first_n,
        canaries_of=listed(canaries),
        later_turns="skip" if skip_later_turns else "refuse",
        rubric=criterion,
    )
    if sheet_out is not None:
        facts = write_human_sheet(folder, request, sheet=sheet_out, seed=seed)
        print_facts("sheet for people", facts, as_json=as_json)
        return
    if labels is not None:
        facts = read_human_labels(folder, labels=labels[0], key=labels[1], name=judge_name or labels[0].stem)
        print_facts("labels of people", facts, as_json=as_json)
        return
    run = JudgingRun(
        folder,
        request,
        JudgeChoice(
            kind,
            tuple(settings or ()),
            judge_model,
            judge_name,
            base_url,
            api_key_env,
            parallel,
            is_asked=not dry_run,
            rubric=criterion,
        ),
        repeats=judge_repeats,
        retry_failed=retry_failed,
        max_failure_rate=max_failure_rate,
        prices=prices,
        max_cost=max_cost,
    )
    if batch_out is not None:
        print_facts(f"batch requests in {batch_out}", {"requests": run.write_batch(batch_out)}, as_json=as_json)
    elif dry_run:
        print_facts(f"plan of judging {folder.folder}", run.plan(), as_json=as_json)
    else:
        print_facts(f"judging of {folder.folder}", run.judged(), as_json=as_json)
