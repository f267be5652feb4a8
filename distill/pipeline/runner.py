"""Runs a recipe: skips a stage that stands, resumes one that was cut off, and says why in one line."""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml

from distill.errors import DistillError, RecipeError, StageError
from distill.files import locked, write_text
from distill.pipeline.cache import refuse_busy
from distill.pipeline.decision import Decision, decide
from distill.pipeline.manifest import (
    StageManifest,
    clear_stage,
    library_versions,
    now,
    read_manifest,
    write_manifest,
)
from distill.pipeline.recipe import LoadedRecipe, Recipe, load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.soundness import RESOLVED_HEADER, require_sound
from distill.pipeline.stages import STAGES, inputs_of, stages_of
from distill.training import is_main_rank, process_group

log = logging.getLogger(__name__)

LAUNCHED_STAGES = ("sft", "cache", "train")
"""What a launcher's ranks do together."""

SHARED_STAGE = "cache"
"""What processes that know nothing of each other do together."""

AFRESH = ("run", "restart")
"""What makes the later stages run again; a stage that is resumed or extended keeps the time when it was started."""

JOINING_S = 600.0
"""How long one of them waits while another begins."""


def run_recipe(
    loaded: LoadedRecipe,
    *,
    until: str | None = None,
    only: str | None = None,
    force: Sequence[str] = (),
    wait_s: float = 0.0,
) -> RunFolder:
    """Runs the stages of a recipe, its teacher's recipe first where it names one.

    Args:
        loaded: the recipe.
        until: the last stage to run.
        only: run this stage alone; the stages it needs must stand.
        force: stages to start over.
        wait_s: how long to wait for another process that uses the run's folder.

    Raises:
        RecipeError: a named stage is unknown or not in the recipe, or `only` needs a stage that does not stand.
        StageError: another process uses the run's folder, or the disk is full. Any number of processes may run the
            stage `cache` alone at the same time; they share its work.
    """
    for name in [*force, *([until] if until else []), *([only] if only else [])]:
        _require_stage(loaded.recipe, name)
    require_sound(loaded)
    is_shared = only == SHARED_STAGE
    wait_s = JOINING_S if is_shared else wait_s
    needs_teacher = any(STAGES[name].uses_teacher for name in _wanted(loaded, until=until, only=only))
    run = bound(loaded, make_teacher=needs_teacher, wait_s=wait_s)
    if is_shared:
        inputs_of(run, SHARED_STAGE)  # reads the models' files, before others have to wait
    with contextlib.ExitStack() as held:
        if is_main_rank():
            held.enter_context(locked(run.output / ".lock", wait_s=wait_s))
            _write_resolved_recipe(run)
        _run_stages(run, until=until, only=only, force=frozenset(force), begun=held.close if is_shared else None)
    return run


def plan(loaded: LoadedRecipe, *, until: str | None = None, force: Sequence[str] = ()) -> list[Decision]:
    """What `run_recipe` would do; loads no weights and writes nothing."""
    for name in [*force, *([until] if until else [])]:
        _require_stage(loaded.recipe, name)
    require_sound(loaded)
    run = bound(loaded, make_teacher=False)
    decisions: list[Decision] = []
    if loaded.recipe.teacher is not None and loaded.recipe.teacher.recipe is not None:
        teacher = teacher_recipe(loaded)
        decisions += [
            dataclasses.replace(decision, stage=f"teacher {decision.stage}") for decision in plan(teacher, until="sft")
        ]
    rerun: set[str] = set()
    for name in stages_of(run):
        decision = decide(run, name, force=name in force, rerun=frozenset(rerun))
        decisions.append(decision)
        if decision.action in AFRESH:
            rerun.add(name)
        if name == until:
            break
    return decisions


def bound(loaded: LoadedRecipe, *, make_teacher: bool, wait_s: float = 0.0) -> RunFolder:
    """The recipe bound to its folder; with `make_teacher`, the teacher's own recipe runs first where needed."""
    made: Path | None = None
    if loaded.recipe.teacher is not None and loaded.recipe.teacher.recipe is not None:
        teacher = teacher_recipe(loaded)
        made = Path(RunFolder(teacher, teacher.recipe.output).final_source)
        if make_teacher and is_main_rank():
            log.info("teacher: recipe %s", loaded.recipe.teacher.recipe)
            if _world_size() > 1:
                _require_made(teacher)
            run_recipe(teacher, until="sft", wait_s=wait_s)
    return RunFolder(loaded, loaded.recipe.output, made)


def _require_made(teacher: LoadedRecipe) -> None:
    """Under a launcher only the main process would train the teacher, and wait for the others for ever."""
    unmade = [decision.stage for decision in plan(teacher, until="sft") if decision.action != "skip"]
    if unmade:
        raise RecipeError(
            f"the teacher's recipe {teacher.path.name} has not run ({', '.join(unmade)})",
            why="a launcher started several processes, and the teacher's recipe runs in one",
            fix=f"distill run {teacher.path} --until sft output={teacher.recipe.output}",
        )


def _wanted(loaded: LoadedRecipe, *, until: str | None, only: str | None) -> list[str]:
    """The stages that the command asks for."""
    if only is not None:
        return [only]
    names = stages_of(RunFolder(loaded, loaded.recipe.output))
    return names if until is None else names[: names.index(until) + 1]


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def teacher_recipe(loaded: LoadedRecipe) -> LoadedRecipe:
    """The recipe that makes the teacher: same data path, its run folder beside this run's."""
    assert loaded.recipe.teacher is not None
    assert loaded.recipe.teacher.recipe is not None
    path = loaded.resolve(loaded.recipe.teacher.recipe)
    overrides = [] if loaded.recipe.data.path is None else [f"data.path={loaded.recipe.data.path}"]
    teacher = load_recipe(path, overrides)
    if teacher.recipe.teacher is not None:
        raise RecipeError(f"teacher.recipe {path} has a teacher itself", fix="name a recipe without a teacher section")
    beside = loaded.recipe.output.parent / teacher.recipe.output.name
    return load_recipe(path, [*overrides, f"output={beside}"])


def _run_stages(
    run: RunFolder,
    *,
    until: str | None,
    only: str | None,
    force: frozenset[str],
    begun: Callable[[], None] | None,
) -> None:
    """Goes through the stages; `begun` is called when a stage is about to work, its folder made and its state told."""
    rerun: set[str] = set()
    for name in stages_of(run):
        decision = decide(run, name, force=name in force, rerun=frozenset(rerun))
        if only not in (None, name):
            _require_standing(run, decision, for_stage=str(only))
            continue
        if decision.action == "skip":
            log.info("%s: skipped, %s", name, decision.reason)
        else:
            log.info("%s: %s, %s", name, decision.action, decision.reason)
            _run_stage(run, decision, begun=begun)
            if decision.action in AFRESH:
                rerun.add(name)
        if name in (until, only):
            return


def _require_standing(run: RunFolder, decision: Decision, *, for_stage: str) -> None:
    """Raises where a stage that `for_stage` needs does not stand."""
    if decision.stage in STAGES[for_stage].needs and decision.action != "skip":
        raise RecipeError(
            f"stage {for_stage} needs stage {decision.stage}, which does not stand ({decision.reason})",
            fix=f"distill run {run.loaded.path.name} --until {for_stage}, with the same overrides",
        )


def _run_stage(run: RunFolder, decision: Decision, *, begun: Callable[[], None] | None) -> None:
    name, folder = decision.stage, run.stage(decision.stage)
    if _world_size() > 1 and name not in LAUNCHED_STAGES:
        raise RecipeError(
            f"stage {name} runs in one process",
            why="a launcher started several",
            fix=f"distill {name} {run.loaded.path.name}, then the launcher with one of: {', '.join(LAUNCHED_STAGES)}",
        )
    if is_main_rank():
        if decision.action == "restart":
            if name == SHARED_STAGE:
                refuse_busy(folder)
            clear_stage(folder)
        folder.mkdir(parents=True, exist_ok=True)
    earlier = None if decision.action in AFRESH else read_manifest(folder)
    settings = run.recipe.model_dump(mode="json")
    key = STAGES[name].key
    manifest = StageManifest(
        stage=name,
        fingerprint=decision.fingerprint,
        status="running",
        inputs=inputs_of(run, name),
        settings={key: settings[key]} if key else {},
        seed=run.recipe.seed,
        versions=library_versions(),
        started=now() if earlier is None else earlier.started,
    )
    if is_main_rank():
        write_manifest(folder, manifest)
    if _world_size() > 1:
        with process_group() as world:
            world.wait()  # no rank may read what the main one is about to clear
    if begun is not None:
        begun()
    started = time.monotonic()
    try:
        summary = STAGES[name].run(run)
    except OSError as error:
        raise StageError(
            f"stage {name} failed: {error}", why="the operating system refused", fix="free space or rights, then rerun"
        ) from error
    except torch.OutOfMemoryError as error:
        raise StageError(
            f"stage {name} ran out of GPU memory",
            why=str(error).partition(". ")[0],
            fix="lower micro_batch_size or batch_size, or choose another memory plan from ds_configs/",
        ) from error
    except DistillError as error:
        error.add_note(f"in stage {name}")
        raise
    elapsed_s = time.monotonic() - started
    if is_main_rank():
        done = manifest.model_copy(update={"status": "done", "elapsed_s": elapsed_s, "summary": summary})
        write_manifest(folder, done)
    log.info("%s: done in %.1f s", name, elapsed_s)


def _require_stage(recipe: Recipe, name: str) -> None:
    if name not in STAGES:
        raise RecipeError(f"stage {name} is not known", fix=f"one of: {', '.join(STAGES)}")
    key = STAGES[name].key
    if key is not None and getattr(recipe, key) is None:
        raise RecipeError(f"the recipe has no {key} section", why=f"stage {name} needs it", fix=f"add {key}:")


def _write_resolved_recipe(run: RunFolder) -> None:
    values = run.recipe.model_dump(mode="json")
    write_text(run.output / "recipe.yaml", RESOLVED_HEADER + yaml.safe_dump(values, sort_keys=False))
