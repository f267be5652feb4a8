"""What is refused before a run starts: what would stop a later stage, or damage what is no run's."""

from pathlib import Path

from distill.errors import RecipeError
from distill.pipeline.decision import started
from distill.pipeline.manifest import refuse_foreign
from distill.pipeline.recipe import LoadedRecipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import settings_here
from distill.pipeline.stages import stages_of
from distill.training import accumulation_steps, is_main_rank, memory_plan

RESOLVED_HEADER = "# Written by distill: the recipe of this run, with every default and override.\n"


def require_sound(loaded: LoadedRecipe) -> None:
    """Refuses, before anything runs, what would stop a later stage or damage what is no run's.

    Raises:
        RecipeError: a memory plan is missing or wrong, batches do not divide, or the output folder is not a run's.
    """
    run = RunFolder(loaded, loaded.recipe.output)
    for settings in (loaded.recipe.sft, loaded.recipe.train):
        if settings is not None:
            memory_plan(settings_here(run, settings))
            accumulation_steps(settings, world_size=1)
    for folder in (run.output, *run.output.parents):
        if folder.exists() and not folder.is_dir():
            raise RecipeError(f"output is {run.output}, and {folder} is a file", fix="choose a folder: output=DIR")
    if is_main_rank():
        names = stages_of(run)
        for name in names:
            refuse_foreign(run.stage(name))
        resolved = run.output / "recipe.yaml"
        if resolved.exists() and not any(started(run, name) for name in names):
            _refuse_foreign_recipe(resolved)


def _refuse_foreign_recipe(path: Path) -> None:
    if not path.read_text(encoding="utf-8", errors="replace").startswith(RESOLVED_HEADER):
        raise RecipeError(
            f"{path} is in the way of the run's own recipe.yaml",
            why="a run writes its resolved recipe there, and this file was written by someone else",
            fix="choose another folder with output=DIR",
        )
