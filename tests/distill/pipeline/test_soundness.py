import importlib.util
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
    [("sft.deepspeed=nowhere.json", r"nowhere\.json"), ("sft.micro_batch_size=0", "micro_batch_size")],
)
def test_what_would_stop_a_later_stage_is_refused_before_the_first(tmp_path: Path, override: str, words: str):
    with pytest.raises(RecipeError, match=words):
        run_recipe(_recipe(tmp_path, override), until="prepare")
    assert not list(tmp_path.iterdir())


def test_a_monitor_without_its_package_is_refused_before_the_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    is_there = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "wandb" else is_there(name))
    with pytest.raises(RecipeError, match=r"package wandb is not installed\n(.|\n)*pip install wandb"):
        run_recipe(_recipe(tmp_path, "sft.monitor.to=[csv, wandb]"), until="prepare")
    assert not list(tmp_path.iterdir())


def test_the_resolved_recipe_never_takes_the_place_of_ones_own(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text("# mine\n")
    with pytest.raises(RecipeError, match="written by someone else"):
        run_recipe(_recipe(tmp_path), until="prepare")
    assert (tmp_path / "recipe.yaml").read_text() == "# mine\n"


DRAWN = "train.objective={name: gkd, on_policy_share: 0.5}"


def test_a_student_of_another_tokenizer_is_refused_before_it_draws_answers(tiny_recipe: Path, tmp_path: Path):
    stranger = f"student.path={tiny_recipe.parent / 'stranger'}"
    with pytest.raises(
        RecipeError, match=r"teacher and student have different tokenizers: .*\nwhy: objective gkd lets"
    ):
        plan(load_recipe(tiny_recipe, [DRAWN, stranger, f"output={tmp_path}"]))
    plan(load_recipe(tiny_recipe, [DRAWN, f"output={tmp_path}"]))
    plan(load_recipe(tiny_recipe, ["train.objective={name: dpo}", stranger, f"output={tmp_path}"]))


def test_weights_that_are_cut_over_the_ranks_draw_no_answers(tiny_recipe: Path, tmp_path: Path):
    overrides = [f"train.deepspeed={ROOT / 'ds_configs' / 'zero3_offload.json'}", f"output={tmp_path}"]
    with pytest.raises(RecipeError, match=r"draws answers from the student, and .*zero3_offload\.json is ZeRO-3"):
        plan(load_recipe(tiny_recipe, [DRAWN, *overrides]))
    plan(load_recipe(tiny_recipe, overrides))
