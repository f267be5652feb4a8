"""`distill eval fetch` and `distill eval answer`: the questions, and what models say to them."""

from pathlib import Path
from typing import Annotated

import typer

from distill.cli_eval_options import DATA, BaseUrlOption, BenchOption, DataOption, JsonOption, KeyOption
from distill.cli_output import print_table
from distill.cli_principle import PrincipleOption, RatioOption, alignment_of
from distill.errors import RecipeError


def fetch(
    name: Annotated[str, typer.Argument(metavar="mt_bench", help="the benchmark to bring")],
    from_dir: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="read a folder instead of the public homes")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="the benchmark's folder")] = DATA / "mt_bench",
    github_url: Annotated[str | None, typer.Option(help="mirror of raw.githubusercontent.com")] = None,
    hub_url: Annotated[str | None, typer.Option(envvar="HF_ENDPOINT", help="mirror of huggingface.co")] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring MT-Bench's questions, judge prompts, references and human votes; every file is checked."""
    if name != "mt_bench":
        raise RecipeError(f"fetch {name}: nothing of this name is known", fix="distill eval fetch mt_bench")
    from eval.mt_bench.fetch import Net, fetch_mt_bench
    from eval.mt_bench.sources import GITHUB_URL, HUB_URL

    net = Net(github_url=(github_url or GITHUB_URL).rstrip("/"), hub_url=(hub_url or HUB_URL).rstrip("/"))
    fetched = fetch_mt_bench(out, from_dir=from_dir, net=net)
    rows = [
        {
            "file": item.target,
            "status": item.status,
            "what": item.what,
            "from": item.origin,
            "licence": item.licence,
            "sha256": item.sha256 if as_json else f"{item.sha256[:12]}…",
        }
        for item in fetched
    ]
    print_table(f"MT-Bench in {out}", rows, as_json=as_json)


def answer(
    models: Annotated[
        list[str],
        typer.Argument(metavar="[ID=]MODEL ...", help="model or export folders, .gguf files, hub ids, server names"),
    ],
    bench: BenchOption = "two_turns",
    data: DataOption = DATA,
    model_id: Annotated[str | None, typer.Option(help="files one model's answers; else ID=MODEL")] = None,
    base_url: BaseUrlOption = None,
    api_key_env: KeyOption = None,
    max_new_token: Annotated[
        int, typer.Option("--max-new-token", "--max-tokens", min=1, help="longest answer to one turn")
    ] = 1024,
    force_temperature: Annotated[
        float | None, typer.Option(min=0.0, help="for every question; else its own or its category's")
    ] = None,
    question_begin: Annotated[int | None, typer.Option(min=0, help="first question, counted from 0")] = None,
    question_end: Annotated[int | None, typer.Option(min=0, help="the one after the last")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="questions under way at once: a batch, or requests")] = 16,
    seed: Annotated[int, typer.Option(help="of the sampling")] = 0,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16, for weights loaded here")] = "float32",
    device: Annotated[str, typer.Option(help="for weights loaded here")] = "auto",
    revision: Annotated[str | None, typer.Option(help="of a hub id")] = None,
    chat_template: Annotated[Path | None, typer.Option(help="a jinja file in place of the tokenizer's")] = None,
    principle: PrincipleOption = None,
    ratio: RatioOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="ask every question again")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let models answer every turn, each on their own earlier answers; what is answered already stays."""
    from distill.decoding import ServerSettings
    from distill.settings import validated
    from eval.mt_bench.answer_bench import AnswerRequest, answer_bench
    from eval.mt_bench.answering import (
        SECTION,
        LoadingOptions,
        dtype_of,
        named_models,
        opened_model,
        opened_server,
        require_unsteered,
    )
    from eval.mt_bench.folder import open_bench
    from eval.mt_bench.questions import read_questions

    named = named_models(models, model_id=model_id)
    alignment = alignment_of(principle, ratio)
    if base_url is not None:
        require_unsteered(alignment, f"the models answer behind {base_url}")
    options = LoadingOptions(dtype_of(dtype), device, revision, chat_template, max_new_token, alignment)
    request = AnswerRequest(
        question_begin, question_end, force_temperature, max_new_token, parallel, seed, overwrite=overwrite
    )
    folder = open_bench(bench, data=data)
    first = read_questions(folder.questions)[0]
    summaries = []
    for model in named:
        if base_url is not None:
            values = {"base_url": base_url, "model": model.source, "api_key_env": api_key_env}
            server = validated(ServerSettings, {**values, "max_concurrent": parallel}, source=SECTION)
            summaries.append(answer_bench(folder, model, opened_server(server), request))
            continue
        with opened_model(model.source, first, options) as opened:
            summaries.append(answer_bench(folder, model, opened, request))
    rows = [
        {
            "model": one.model_id,
            "answered": f"{one.num_answered} of {one.num_questions}",
            "turns": one.num_turns,
            "cut off": one.num_cut_off,
            "empty": one.num_empty,
            "mean tokens": one.mean_tokens,
            "file": str(one.path),
        }
        for one in summaries
    ]
    print_table(f"answers to {folder.questions}", rows, as_json=as_json)
