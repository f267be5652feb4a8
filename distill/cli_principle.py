"""`--principle` and `--ratio`: answers steered by Linear Alignment, on every verb that generates."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill.errors import RecipeError

if TYPE_CHECKING:
    from distill.decoding import LinearAlignmentSettings
    from distill.pipeline import LoadedRecipe

PrincipleOption = Annotated[
    str | None, typer.Option("--principle", metavar="TEXT", help="a principle that answers are steered by")
]
RatioOption = Annotated[
    float | None,
    typer.Option("--ratio", min=0.0, metavar="R", help="how far the principle steers; 0: it stands in the prompt only"),
]
STEERED = {
    "run": ("sft", "pairs"),
    "sft": ("sft",),
    "pairs": ("pairs",),
    "evaluate": ("evaluate",),
    "linear_alignment": (),
}
"""Recipe sections whose answers a verb steers: the teacher's in `sft` and `pairs`, every model's in `evaluate`."""
MEASURING = ("run", "linear_alignment")
"""Verbs that give the principle, and the ratio as the only one, to stage `linear_alignment`, which measures both."""


def load(recipe: Path, overrides: Sequence[str] | None) -> "LoadedRecipe":
    """The recipe with its overrides.

    Raises:
        RecipeError: it cannot be read, or is wrong.
    """
    from distill.pipeline import load_recipe

    try:
        return load_recipe(recipe, overrides or ())
    except OSError as error:
        raise RecipeError(f"recipe {recipe} cannot be read: {error.strerror}", fix="check path and rights") from error


def steered(
    verb: str, recipe: Path, overrides: list[str] | None, principle: str | None, ratio: float | None
) -> list[str] | None:
    """The overrides with those that `--principle` and `--ratio` stand for.

    Raises:
        RecipeError: as `steering_overrides`.
    """
    if principle is None and ratio is None:
        return overrides
    added = steering_overrides(verb, load(recipe, overrides), principle=principle, ratio=ratio)
    return [*(overrides or ()), *added]


def alignment_of(principle: str | None, ratio: float | None) -> "LinearAlignmentSettings | None":
    """What the two options say, or None where neither is given.

    Raises:
        RecipeError: a ratio without a principle, or a principle without text.
    """
    if not _is_asked_for(principle, ratio):
        return None
    from distill.decoding import LinearAlignmentSettings
    from distill.settings import validated

    values = {"principle": principle} if ratio is None else {"principle": principle, "ratio": ratio}
    return validated(LinearAlignmentSettings, values, source="--principle")


def steering_overrides(verb: str, loaded: "LoadedRecipe", *, principle: str | None, ratio: float | None) -> list[str]:
    """Overrides that steer what `distill VERB RECIPE` generates; none where no principle is given.

    Raises:
        RecipeError: a ratio without a principle, or the recipe generates nothing that could be steered.
    """
    if not _is_asked_for(principle, ratio):
        return []
    recipe = loaded.recipe
    sections = [name for name in STEERED[verb] if getattr(recipe, name) is not None]
    if recipe.sft is not None and recipe.sft.answers == "data" and "sft" in sections:
        sections.remove("sft")
    measures = verb in MEASURING and recipe.linear_alignment is not None
    if not sections and not measures:
        raise RecipeError(
            f"--principle is given to {verb}, but {loaded.path.name} asks no model for answers there",
            why=f"it steers the answers of {' and '.join(STEERED[verb] or (verb,))}",
            fix="leave --principle out, or add the section to the recipe",
        )
    values = {f"{name}.linear_alignment.principle": json.dumps(principle) for name in sections}
    values |= {} if ratio is None else {f"{name}.linear_alignment.ratio": json.dumps(ratio) for name in sections}
    if measures:
        values["linear_alignment.principle"] = json.dumps(principle)
        values |= {} if ratio is None else {"linear_alignment.ratios": json.dumps([ratio])}
    return [f"{key}={value}" for key, value in values.items()]


def _is_asked_for(principle: str | None, ratio: float | None) -> bool:
    if principle is None and ratio is not None:
        raise RecipeError(
            f"--ratio is {ratio:g}, and no --principle is given",
            why="a ratio says how far a principle steers",
            fix="add --principle TEXT",
        )
    return principle is not None
