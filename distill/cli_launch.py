"""`--nproc N` of `distill run`, `sft` and `train`: which commands the ranks get."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeGuard

import typer

from distill.launch import launch, require_launchable

if TYPE_CHECKING:
    from distill.pipeline import LoadedRecipe

NprocOption = Annotated[
    int | None, typer.Option("--nproc", min=1, metavar="N", help="processes of this machine that train together")
]
TRAINING_STAGES = ("sft", "train")


def wants_ranks(nproc: int | None) -> TypeGuard[int]:
    """Whether `--nproc` asks for more processes than this one.

    Raises:
        RecipeError: as `require_launchable`.
    """
    if nproc is None:
        return False
    import torch

    require_launchable(nproc, num_gpus=torch.cuda.device_count(), environment=os.environ)
    return nproc > 1


def launch_stage(
    name: str, recipe: Path, overrides: Sequence[str] | None, *, num_processes: int, as_json: bool
) -> None:
    """`distill NAME RECIPE` as so many ranks."""
    words = [name, str(recipe), *(overrides or ()), *_flags(as_json=as_json)]
    launch([*_logging_words(), *words], num_processes=num_processes)


def launch_run(
    loaded: "LoadedRecipe",
    recipe: Path,
    overrides: Sequence[str] | None,
    *,
    num_processes: int,
    until: str | None,
    force: Sequence[str],
    as_json: bool,
) -> None:
    """`distill run RECIPE` in parts: each training stage as ranks, what lies between as one process.

    A part is a command of its own, which frees the devices when it ends.
    """
    from distill.pipeline import plan

    names = [decision.stage for decision in plan(loaded, until=until, force=force) if " " not in decision.stage]
    parts = parts_of(names)
    for part in parts:
        is_last = part is parts[-1]
        forced = [name for name in part if name in force]
        works = part[0] in TRAINING_STAGES and plan(loaded, until=part[0], force=forced)[-1].action != "skip"
        words = ["run", str(recipe), *(overrides or ()), *(word for name in forced for word in ("--force", name))]
        words += (["--until", until] if until else []) if is_last else ["--until", part[-1]]
        words += _flags(as_json=as_json)
        launch([*_logging_words(), *words], num_processes=num_processes if works else 1, is_shown=is_last)


def parts_of(stages: Sequence[str]) -> list[list[str]]:
    """The stages cut before and after each that trains."""
    parts: list[list[str]] = []
    for name in stages:
        if name in TRAINING_STAGES or not parts or parts[-1][0] in TRAINING_STAGES:
            parts.append([])
        parts[-1].append(name)
    return parts


def _flags(*, as_json: bool) -> list[str]:
    return ["--json"] if as_json else []


def _logging_words() -> list[str]:
    return ["--verbose"] if logging.getLogger("distill").level == logging.DEBUG else []
