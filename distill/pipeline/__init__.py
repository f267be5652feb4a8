"""Stages, fingerprints and resume: from a recipe to a finished run."""

from distill.pipeline.decision import Decision
from distill.pipeline.manifest import StageManifest, read_manifest
from distill.pipeline.recipe import LoadedRecipe, Recipe, load_recipe
from distill.pipeline.runner import plan, run_recipe
from distill.pipeline.stages import STAGES

__all__ = [
    "STAGES",
    "Decision",
    "LoadedRecipe",
    "Recipe",
    "StageManifest",
    "load_recipe",
    "plan",
    "read_manifest",
    "run_recipe",
]
