"""`distill VERB`: the command line; the only place that prints and the only one that configures logging."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill import __version__
from distill.errors import DistillError, RecipeError

if TYPE_CHECKING:
    from distill.pipeline import LoadedRecipe

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Distils a large chat model (the teacher) into a small one (the student).",
)

RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe file, *.yaml")]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[key.sub=value ...]", help="overrides; values are YAML")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print the table as JSON")]


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    until: Annotated[str | None, typer.Option(help="the last stage to run")] = None,
    force: Annotated[list[str] | None, typer.Option(metavar="STAGE", help="start this stage over")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and print the plan; load no weights")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe: every stage that does not stand yet, in order."""
    from distill.pipeline import plan, run_recipe

    loaded = _load(recipe, overrides)
    if dry_run:
        decisions = plan(loaded, until=until, force=force or ())
        rows: list[dict[str, object]] = [{"stage": d.stage, "action": d.action, "reason": d.reason} for d in decisions]
        _print_table(f"plan of {recipe}", rows, as_json=as_json)
        return
    finished = run_recipe(loaded, until=until, force=force or ())
    _print_results(finished.output, as_json=as_json)


def _stage_command(name: str, summary: str) -> None:
    def command(recipe: RecipeArgument, overrides: OverridesArgument = None, as_json: JsonOption = False) -> None:
        _run_stage(name, recipe, overrides, as_json=as_json)

    command.__doc__ = summary
    app.command(name)(command)


_stage_command("prepare", "Turn the recipe's data section into prompts and conversations.")
_stage_command("sft", "Let the student learn answers: the teacher's, or the data's own.")
_stage_command("pairs", "Sample one teacher and one student answer for each prompt.")
_stage_command("train", "Train the student from the cache with DeepSpeed.")
_stage_command("evaluate", "Measure accuracy, preference rate, divergence and speed.")
_stage_command("report", "Write report.html and report.json.")


@app.command()
def cache(
    target: Annotated[str, typer.Argument(metavar="RECIPE | inspect | verify", help="a recipe, or a sub-verb")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[DIR | key.sub=value ...]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score both completions of every pair; or inspect or verify a cache folder."""
    if target not in ("inspect", "verify"):
        _run_stage("cache", Path(target), words, as_json=as_json)
        return
    from distill.teacher_cache import inspect, verify

    if not words or len(words) != 1:
        raise RecipeError(f"cache {target} takes one folder", fix=f"distill cache {target} DIR")
    facts = inspect(Path(words[0])) if target == "inspect" else verify(Path(words[0]))
    rows = [{"what": name, "value": value} for name, value in facts.items()]
    _print_table(f"cache {words[0]}", rows, as_json=as_json)


@app.command()
def export(
    target: Annotated[str, typer.Argument(metavar="RECIPE | MODEL", help="a recipe, or a model folder")],
    overrides: OverridesArgument = None,
    formats: Annotated[str | None, typer.Option(help="comma-separated, for a model folder")] = None,
    out: Annotated[Path | None, typer.Option(help="where the artefacts go, for a model folder")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write merged and quantized artefacts, each loaded by its real runtime and compared."""
    if target.endswith((".yaml", ".yml")):
        _run_stage("export", Path(target), overrides, as_json=as_json)
        return
    from distill.export import FORMATS, export_model

    if formats is None or out is None:
        raise RecipeError(
            f"export of the model {target} needs --formats and --out",
            fix=f"distill export {target} --formats {','.join(FORMATS)} --out DIR",
        )
    report = export_model(Path(target), formats=tuple(formats.split(",")), output_dir=out)
    _print_table(f"artefacts in {out}", report.rows(), as_json=as_json)


def _run_stage(name: str, recipe: Path, overrides: list[str] | None, *, as_json: bool) -> None:
    from distill.pipeline import read_manifest, run_recipe

    finished = run_recipe(_load(recipe, overrides), only=name)
    manifest = read_manifest(finished.stage(name))
    summary = manifest.summary if manifest is not None else {}
    _print_table(f"{name} of {recipe}", [{"what": k, "value": v} for k, v in summary.items()], as_json=as_json)


def _load(recipe: Path, overrides: list[str] | None) -> "LoadedRecipe":
    from distill.pipeline import load_recipe

    return load_recipe(recipe, overrides or ())


def _print_results(output: Path, *, as_json: bool) -> None:
    """The result table of a finished run, where its recipe has an evaluation."""
    from eval.results import HEADINGS, read_results

    path = output / "evaluate" / "results.json"
    if not path.exists():
        print(f"done: {output}")
        return
    results = read_results(path)
    if as_json:
        print(path.read_text(encoding="utf-8"))
        return
    rows: list[dict[str, object]] = [dict(zip(HEADINGS, cells, strict=True)) for cells in results.cells()]
    _print_table(f"results of {output}", rows, as_json=False)
    for line in [*results.sentences(), *results.notes]:
        print(line)
    report = output / "report" / "report.html"
    if report.exists():
        print(f"report: {report}")


def _print_table(title: str, rows: list[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ("nothing",):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False, highlight=False).print(table)


def _version(shown: bool) -> None:
    if shown:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", help="log the details too")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Distils a large chat model into a small one."""
    del version
    main_rank = os.environ.get("RANK", "0") == "0"
    level = (logging.DEBUG if verbose else logging.INFO) if main_rank else logging.ERROR
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for name in ("distill", "eval"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def main() -> None:
    """The entry point: errors go to stderr as what / why / fix, without a traceback."""
    arguments = [word for word in sys.argv[1:] if not word.startswith("--local_rank")]
    try:
        app(args=arguments, standalone_mode=True)
    except DistillError as error:
        print(f"error: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
