"""Where shipped recipes want data that are not shipped."""

from pathlib import Path

_OF_DATA = ("smalltalk", "smalltalk-teacher", "smalltalk-small-teacher", "smalltalk-linear-alignment", "coffee-teacher")
_KEYS = {
    **dict.fromkeys(_OF_DATA, ("data.path",)),
    "ebrm-pairs": ("reward.pairs.coffee.path", "reward.pairs.small-talk.path"),
    "safer_instruct-texts": (
        "data.path",
        "safer_instruct.texts.path",
        "harmlessness.prompts.provoking.path",
        "harmlessness.prompts.ordinary.path",
    ),
}


def paths_given(recipe: Path, path: Path) -> list[str]:
    """Overrides that give `path` for all data of a recipe that it leaves to the reader."""
    return [f"{key}={path}" for key in _KEYS.get(recipe.stem, ())]
