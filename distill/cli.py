"""`distill VERB`: the command line; with cli_* the only place that prints, and the only one that configures logging."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from distill import __version__
from distill.cli_cache import CACHE_VERBS, CacheOptions, look_into, worker_overrides
from distill.cli_eval import eval_app
from distill.cli_export import (
    CalibrationOption,
    ChatsOption,
    DtypeOption,
    MaxKlOption,
    MinTop1Option,
    TeacherOption,
    export_folder,
    require_no_options,
)
from distill.cli_launch import NprocOption, launch_run, launch_stage, wants_ranks
from distill.cli_output import is_main_rank, print_facts, print_results, print_table
from distill.cli_package import (
    PACKAGE_VERBS,
    ChecksumsOnlyOption,
    PublicOption,
    YesOption,
    by_option,
    push_folder,
    require_own_options,
    verify_folder,
)
from distill.cli_principle import PrincipleOption, RatioOption, load, steered
from distill.cli_refusal import fail, refuse_usage
from distill.cli_stages import ANSWERING_VERBS, STAGE_VERBS
from distill.errors import DistillError, RecipeError
from distill.launch import heed_launcher, is_launched
from distill.process import (
    INTERRUPTED,
    TERMINATED,
    is_unread,
    keep_freed_memory,
    refusal_of_system,
    stopped_by_sigterm,
    without_local_rank,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Distils a large chat model (the teacher) into a small one (the student).",
)
app.add_typer(eval_app, name="eval")

RecipeArgument = Annotated[Path, typer.Argument(metavar="RECIPE", help="a recipe file, *.yaml")]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[key.sub=value ...]", help="overrides; values are YAML")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print the table as JSON")]


@app.command()
def run(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="the last stage to run")] = None,
    force: Annotated[list[str] | None, typer.Option(metavar="STAGE", help="start this stage over")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check and print the plan; load no weights")] = False,
    nproc: NprocOption = None,
    principle: PrincipleOption = None,
    ratio: RatioOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe: every stage that does not stand yet, in order. A principle steers the teacher's answers."""
    from distill.pipeline import plan, run_recipe

    overrides = steered("run", recipe, overrides, principle, ratio)
    loaded = load(recipe, overrides)
    if dry_run:
        decisions = plan(loaded, until=until, force=force or ())
        rows: list[dict[str, object]] = [{"stage": d.stage, "action": d.action, "reason": d.reason} for d in decisions]
        print_table(f"plan of {recipe}", rows, as_json=as_json)
        return
    if wants_ranks(nproc):
        launch_run(loaded, recipe, overrides, num_processes=nproc, until=until, force=force or (), as_json=as_json)
        return
    finished = run_recipe(loaded, until=until, force=force or ())
    print_results(finished.output, is_whole=until in (None, "evaluate", "report"), as_json=as_json)


def _stage_command(name: str, summary: str) -> None:
    def command(recipe: RecipeArgument, overrides: OverridesArgument = None, as_json: JsonOption = False) -> None:
        _run_stage(name, recipe, overrides, as_json=as_json)

    command.__doc__ = summary
    app.command(name)(command)


def _answering_command(name: str, summary: str) -> None:
    def command(
        recipe: RecipeArgument,
        overrides: OverridesArgument = None,
        principle: PrincipleOption = None,
        ratio: RatioOption = None,
        as_json: JsonOption = False,
    ) -> None:
        _run_stage(name, recipe, steered(name, recipe, overrides, principle, ratio), as_json=as_json)

    command.__doc__ = summary
    app.command(name)(command)


for _name, _summary in STAGE_VERBS.items():
    _stage_command(_name, _summary)
for _name, _summary in ANSWERING_VERBS.items():
    _answering_command(_name, _summary)


@app.command()
def sft(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    nproc: NprocOption = None,
    principle: PrincipleOption = None,
    ratio: RatioOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the student learn answers: the teacher's, which a principle may steer, or the data's own."""
    _train_stage("sft", recipe, steered("sft", recipe, overrides, principle, ratio), nproc, as_json=as_json)


@app.command()
def train(
    recipe: RecipeArgument, overrides: OverridesArgument = None, nproc: NprocOption = None, as_json: JsonOption = False
) -> None:
    """Train the student from the cache with DeepSpeed."""
    _train_stage("train", recipe, overrides, nproc, as_json=as_json)


@app.command()
def cache(
    target: Annotated[
        str, typer.Argument(metavar="RECIPE | " + " | ".join(CACHE_VERBS), help="a recipe, or a sub-verb")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key.sub=value ... | DIR]", help="a recipe's overrides, or a cache folder"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="RECIPE: processes of this machine that score together")
    ] = None,
    against_teacher: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="verify: compare N sequences with the live teacher")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="gc: say what would go, remove nothing")] = False,
    as_json: JsonOption = False,
) -> None:
    """Score both completions of every pair; or inspect, verify, benchmark or clean up a cache folder."""
    options = CacheOptions(workers, against_teacher, dry_run, as_json)
    if target in CACHE_VERBS:
        look_into(target, _only_folder(f"cache {target}", words), options)
        return
    if not _is_recipe(target):
        raise RecipeError(
            f"cache {target}: neither a recipe (*.yaml) nor one of {', '.join(CACHE_VERBS)}",
            fix=f"distill cache RECIPE.yaml, or distill cache inspect {target}",
        )
    options.require_only("a recipe", "--workers")
    _run_stage("cache", Path(target), [*(words or ()), *worker_overrides(options)], as_json=as_json)


@app.command()
def export(
    target: Annotated[
        str, typer.Argument(metavar="RECIPE | MODEL | verify | push", help="a recipe, a model folder, or a sub-verb")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[key.sub=value ... | DIR [REPO_ID]]", help="a recipe's overrides, or a folder of artefacts"
        ),
    ] = None,
    formats: Annotated[str | None, typer.Option(help="comma-separated, for a model folder")] = None,
    out: Annotated[Path | None, typer.Option(help="where the artefacts go, for a model folder")] = None,
    chats: ChatsOption = None,
    calibration: CalibrationOption = None,
    dtype: DtypeOption = None,
    teacher: TeacherOption = None,
    max_kl: MaxKlOption = None,
    min_top1: MinTop1Option = None,
    checksums_only: ChecksumsOnlyOption = False,
    yes: YesOption = False,
    public: PublicOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write merged and quantized artefacts, each loaded by its real runtime; verify them again; push one to the hub."""
    measured: dict[str, object] = {"chats": chats, "calibration": calibration, "teacher": teacher, "dtype": dtype}
    measured |= {"max_kl": max_kl, "min_top1": min_top1}
    given = by_option({"formats": formats, "out": out, **measured})
    package = by_option({"checksums_only": checksums_only, "yes": yes, "public": public})
    if target in PACKAGE_VERBS:
        require_own_options(target, given | package)
        if target == "verify":
            verify_folder(words, checksums_only=checksums_only, max_kl=max_kl, min_top1=min_top1, as_json=as_json)
        else:
            push_folder(words, yes=yes, public=public, as_json=as_json)
    elif _is_recipe(target):
        require_own_options("RECIPE", package)
        require_no_options(target, {"formats": formats, "out": out, **measured})
        _run_stage("export", Path(target), words, as_json=as_json)
    else:
        require_own_options("MODEL", package)
        export_folder(target, words, formats=formats, out=out, measured=measured, as_json=as_json)


def _is_recipe(word: str) -> bool:
    return word.endswith((".yaml", ".yml"))


def _only_folder(verb: str, words: list[str] | None) -> Path:
    if words is None or len(words) != 1:
        raise RecipeError(f"{verb} takes one folder, not {len(words or ())}", fix=f"distill {verb} DIR")
    return Path(words[0])


def _train_stage(name: str, recipe: Path, overrides: list[str] | None, nproc: int | None, *, as_json: bool) -> None:
    if wants_ranks(nproc):
        launch_stage(name, recipe, overrides, num_processes=nproc, as_json=as_json)
    else:
        _run_stage(name, recipe, overrides, as_json=as_json)


def _run_stage(name: str, recipe: Path, overrides: list[str] | None, *, as_json: bool) -> None:
    from distill.pipeline import read_manifest, run_recipe

    finished = run_recipe(load(recipe, overrides), only=name)
    manifest = read_manifest(finished.stage(name))
    print_facts(f"{name} of {recipe}", manifest.summary if manifest is not None else {}, as_json=as_json)


def _version(shown: bool) -> bool:
    if shown:
        print(__version__)
        raise typer.Exit
    return shown


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", help="log the details too")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Distils a large chat model into a small one."""
    del version
    level = (logging.DEBUG if verbose else logging.INFO) if is_main_rank() else logging.ERROR
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    for name in ("distill", "eval"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def main() -> None:
    """The entry point: errors go to stderr as what / why / fix, without a traceback."""
    keep_freed_memory()
    if is_launched():
        heed_launcher()
    os.environ.setdefault("TQDM_DISABLE", "1")  # libraries' own bars; ours are rich's
    try:
        with stopped_by_sigterm():
            # None where a verb came to its end, else the code of a typer.Exit.
            code = app(args=without_local_rank(sys.argv[1:]), prog_name="distill", standalone_mode=False)
    except DistillError as error:
        fail(error)
    except typer.TyperException as error:
        refuse_usage(error)
    except OSError as error:
        fail(refusal_of_system(error))
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as stop:
        code = stop.code
    if code in (INTERRUPTED, TERMINATED) and not is_launched():
        print("stopped; the same command goes on from here", file=sys.stderr)
    sys.exit(1 if is_unread() else code)


if __name__ == "__main__":
    main()
