"""What is refused before a run starts: what would stop a later stage, or damage what is no run's."""

from pathlib import Path

from distill.errors import RecipeError
from distill.models import ModelSettings, load_tokenizer, same_vocabulary
from distill.pipeline.decision import started
from distill.pipeline.manifest import refuse_foreign
from distill.pipeline.recipe import LoadedRecipe
from distill.pipeline.run_folder import RunFolder, model_source
from distill.pipeline.sft import settings_here
from distill.pipeline.stages import stages_of
from distill.training import (
    draws_answers,
    is_main_rank,
    memory_plan,
    require_monitors,
    require_whole_weights,
)

RESOLVED_HEADER = "# Written by distill: the recipe of this run, with every default and override.\n"


def require_sound(loaded: LoadedRecipe) -> None:
    """Refuses, before anything runs, what would stop a later stage or damage what is no run's.

    Raises:
        RecipeError: a memory plan is missing or wrong, a package of a monitor is missing, the
            output folder is not a run's, or the student draws answers that the teacher reads otherwise.
    """
    run = RunFolder(loaded, loaded.recipe.output)
    for settings in (loaded.recipe.sft, loaded.recipe.train, loaded.recipe.f_dpg):
        if settings is not None:
            memory_plan(settings_here(run, settings))
            require_whole_weights(settings, memory_plan(settings_here(run, settings)))
            require_monitors(settings.monitor)
    _require_one_vocabulary(run)
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


def _require_one_vocabulary(run: RunFolder) -> None:
    """Compares the tokenizers where answers are drawn, and both are in folders that are here by now.

    Those of hub ids and of a teacher that a recipe makes are compared in stage `cache`.
    """
    recipe = run.recipe
    if recipe.train is None or recipe.teacher is None or not draws_answers(recipe.train):
        return
    folders = [_folder_of(settings) for settings in (recipe.teacher, recipe.student)]
    if folders[0] is None or folders[1] is None:
        return
    reason = same_vocabulary(load_tokenizer(folders[0]), load_tokenizer(folders[1]))
    if reason is not None:
        raise RecipeError(
            f"teacher and student have different tokenizers: {reason}",
            why=f"objective {recipe.train.objective.name} lets the teacher read answers that the student draws",
            fix="choose a student of the teacher's family, or give the student the teacher's tokenizer",
        )


def _folder_of(settings: ModelSettings) -> Path | None:
    source = None if settings.path is None else model_source(settings)
    return source if isinstance(source, Path) else None


def _refuse_foreign_recipe(path: Path) -> None:
    if not path.read_text(encoding="utf-8", errors="replace").startswith(RESOLVED_HEADER):
        raise RecipeError(
            f"{path} is in the way of the run's own recipe.yaml",
            why="a run writes its resolved recipe there, and this file was written by someone else",
            fix="choose another folder with output=DIR",
        )
