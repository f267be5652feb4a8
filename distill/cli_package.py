"""`distill export verify` and `distill export push`: an export's checks once more, and its way to the hub."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from distill.cli_output import is_main_rank, print_table
from distill.errors import RecipeError

PACKAGE_VERBS = ("verify", "push")
ChecksumsOnlyOption = Annotated[bool, typer.Option("--checksums-only", help="verify: compare the bytes, load nothing")]
YesOption = Annotated[bool, typer.Option("--yes", help="push: really send the files; without it, say what would go")]
PublicOption = Annotated[bool, typer.Option("--public/--private", help="push: who sees a new repository")]

_OPTIONS = {
    "verify": ("--max-kl", "--min-top1", "--checksums-only"),
    "push": ("--yes", "--public"),
    "MODEL": ("--formats", "--out", "--chats", "--calibration", "--dtype", "--teacher", "--max-kl", "--min-top1"),
    "RECIPE": (),
}


def by_option(values: Mapping[str, object]) -> dict[str, object]:
    """Values of parameters by the names that these have on the command line."""
    return {f"--{name.replace('_', '-')}": value for name, value in values.items()}


def require_own_options(target: str, options: Mapping[str, object]) -> None:
    """Refuses options of another use of `distill export`.

    Args:
        target: `verify`, `push`, `RECIPE` or `MODEL`.
        options: by their name on the command line; None and False stand for not given.

    Raises:
        RecipeError: names the first one.
    """
    for name, value in options.items():
        if value is None or value is False or name in _OPTIONS[target]:
            continue
        owners = [f"distill export {owner} ... {name}" for owner, names in _OPTIONS.items() if name in names]
        raise RecipeError(f"{name} does not go with export {target}", fix=" or ".join(owners))


def verify_folder(
    words: list[str] | None, *, checksums_only: bool, max_kl: float | None, min_top1: float | None, as_json: bool
) -> None:
    """Repeats the checks of an export's folder, or of one of its artefacts, and prints what was measured.

    Raises:
        RecipeError: there are no artefacts, a gate is out of range, or has nothing to be measured on.
        ArtefactError: one is damaged, or is not what its papers say.
        GateError: one misses a gate.
    """
    if words is None or len(words) != 1:
        raise RecipeError(f"export verify takes one folder, not {len(words or ())}", fix="distill export verify DIR")
    folder = Path(words[0])
    gates = {name: value for name, value in (("max_kl", max_kl), ("min_top1", min_top1)) if value is not None}
    if checksums_only and gates:
        named = "--" + next(iter(gates)).replace("_", "-")
        raise RecipeError(
            f"{named} and --checksums-only are both given",
            why="a gate is held against what is measured, and bytes alone measure nothing",
            fix="leave one out",
        )
    from distill.export import ExportSettings, verify_artefacts, verify_export
    from distill.settings import validated

    if checksums_only:
        report, how = verify_export(folder), "checksums verified, nothing loaded"
    else:
        validated(ExportSettings, {**gates, "formats": ("safetensors",)}, source="verify")
        report = verify_artefacts(folder, max_kl=max_kl, min_top1=min_top1)
        how = "verified: checksums, inputs, reload, runtime, fidelity"
    print_table(f"artefacts in {folder}, {how}", report.rows(), as_json=as_json)


def push_folder(words: list[str] | None, *, yes: bool, public: bool, as_json: bool) -> None:
    """Prints what a push of one artefact's folder would send; with `yes` sends it.

    Raises:
        RecipeError: the words are no folder and repository.
        ArtefactError: the artefact is damaged.
        ExportError: the hub cannot be reached or refuses.
    """
    if words is None or len(words) != 2:
        raise RecipeError(
            f"export push takes a folder and a repository, not {len(words or ())} words",
            fix="distill export push DIR/FORMAT USER/NAME",
        )
    from distill.export.push import plan_push, push, rows

    plan = plan_push(Path(words[0]), repo_id=words[1])
    seen_by = "everyone" if public else "only you"
    for warning in plan.warnings:
        _say(f"warning: {warning}")
    print_table(f"{'sending' if yes else 'would send'} to {plan.repo_id}", rows(plan), as_json=as_json)
    if not yes:
        _say(f"nothing was sent; --yes sends it, to a repository that {seen_by} can see")
        return
    _say(f"pushed: {push(plan, private=not public)}")


def _say(text: str) -> None:
    """A line on stderr, so that stdout stays the table."""
    if is_main_rank():
        print(text, file=sys.stderr)
