from pathlib import Path

import pytest

from distill.errors import RecipeError
from distill.pipeline.recipe import LoadedRecipe, load_recipe
from distill.pipeline.runner import plan, run_recipe

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["data.num_teacher=4", "data.num_valid=2", "data.num_test=2"]


def _recipe(output: Path, *overrides: str) -> LoadedRecipe:
    return load_recipe(ROOT / "recipes" / "embedded" / "teacher.yaml", [f"output={output}", *SMALL, *overrides])


def _actions(loaded: LoadedRecipe) -> dict[str, str]:
    return {decision.stage: decision.action for decision in plan(loaded)}


@pytest.mark.parametrize(
    ("override", "words"),
    [("sft.deepspeed=nowhere.json", r"nowhere\.json"), ("sft.global_batch_size=40", "to a multiple of 16")],
)
def test_what_would_stop_a_later_stage_is_refused_before_the_first(tmp_path: Path, override: str, words: str):
    with pytest.raises(RecipeError, match=words):
        run_recipe(_recipe(tmp_path, override), until="prepare")
    assert not list(tmp_path.iterdir())


def test_the_resolved_recipe_never_takes_the_place_of_ones_own(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text("# mine\n")
    with pytest.raises(RecipeError, match="written by someone else"):
        run_recipe(_recipe(tmp_path), until="prepare")
    assert (tmp_path / "recipe.yaml").read_text() == "# mine\n"
