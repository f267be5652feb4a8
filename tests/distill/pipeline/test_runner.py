import json
from pathlib import Path

import pytest
from filelock import FileLock

from distill.errors import DistillError, RecipeError, StageError
from distill.pipeline.manifest import read_manifest
from distill.pipeline.recipe import LoadedRecipe, load_recipe
from distill.pipeline.runner import plan, run_recipe

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["data.num_teacher=4", "data.num_valid=2", "data.num_test=2"]


def _recipe(output: Path, *overrides: str) -> LoadedRecipe:
    return load_recipe(ROOT / "recipes" / "embedded" / "teacher.yaml", [f"output={output}", *SMALL, *overrides])


def _actions(loaded: LoadedRecipe) -> dict[str, str]:
    return {decision.stage: decision.action for decision in plan(loaded)}


def test_a_fresh_run_plans_every_stage_of_the_recipe(tmp_path: Path):
    assert _actions(_recipe(tmp_path)) == dict.fromkeys(("prepare", "sft", "export", "evaluate", "report"), "run")


def test_planning_writes_nothing(tmp_path: Path):
    plan(_recipe(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_until_stops_after_the_named_stage(tmp_path: Path):
    run_recipe(_recipe(tmp_path), until="prepare")
    assert read_manifest(tmp_path / "prepare").status == "done"
    assert not (tmp_path / "sft").exists()


def test_a_forced_stage_starts_over(tmp_path: Path):
    run_recipe(_recipe(tmp_path), until="prepare")
    marker = tmp_path / "prepare" / "left-over"
    marker.touch()
    run_recipe(_recipe(tmp_path), until="prepare", force=["prepare"])
    assert not marker.exists()


def test_a_stage_alone_needs_the_stages_before_it(tmp_path: Path):
    with pytest.raises(RecipeError, match=r"stage sft needs stage prepare, which does not stand \(not made yet\)"):
        run_recipe(_recipe(tmp_path), only="sft")


def test_an_unknown_stage_is_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match="stage tune is not known"):
        run_recipe(_recipe(tmp_path), until="tune")


def test_a_stage_the_recipe_does_not_have_is_refused(tmp_path: Path):
    with pytest.raises(RecipeError, match="the recipe has no pairs section"):
        run_recipe(_recipe(tmp_path), until="pairs")


def test_two_runs_cannot_write_one_folder(tmp_path: Path):
    with FileLock(tmp_path / ".lock"), pytest.raises(StageError, match="in use by another process"):
        run_recipe(_recipe(tmp_path), until="prepare")


def test_a_run_writes_its_resolved_recipe_and_versions(tmp_path: Path):
    run_recipe(_recipe(tmp_path), until="prepare")
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again.recipe == _recipe(tmp_path).recipe
    assert "torch" in json.loads((tmp_path / "prepare" / "manifest.json").read_text())["versions"]


def test_a_distillation_recipe_plans_its_teachers_recipe_first(tmp_path: Path):
    (tmp_path / "data").mkdir()
    overrides = [f"output={tmp_path / 'run'}", f"data.path={tmp_path / 'data'}"]
    decisions = plan(load_recipe(ROOT / "recipes" / "smalltalk.yaml", overrides))
    assert [decision.stage for decision in decisions][:3] == ["teacher prepare", "teacher sft", "prepare"]


def test_a_missing_data_folder_is_named(tmp_path: Path):
    overrides = [f"output={tmp_path}", f"data.path={tmp_path / 'nowhere'}"]
    with pytest.raises(RecipeError, match=r"data\.path .*nowhere does not exist"):
        plan(load_recipe(ROOT / "recipes" / "smalltalk-teacher.yaml", overrides))


@pytest.mark.parametrize("name", ["qwen2.5-7b-to-1.5b", "vicuna-7b-pruned-20"])
def test_the_recipes_for_gpus_plan_without_weights(name: str, tmp_path: Path):
    decisions = plan(load_recipe(ROOT / "recipes" / f"{name}.yaml", [f"output={tmp_path}"]))
    assert [decision.action for decision in decisions] == ["run"] * 8


def test_a_stage_that_asks_no_teacher_makes_none(tmp_path: Path):
    (tmp_path / "data").mkdir()
    overrides = [f"output={tmp_path / 'run'}", f"data.path={tmp_path / 'data'}"]
    with pytest.raises(DistillError, match=r"\.qna"):
        run_recipe(load_recipe(ROOT / "recipes" / "smalltalk.yaml", overrides), only="prepare")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run"]


def test_a_launcher_is_refused_while_the_teachers_recipe_has_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    (tmp_path / "data").mkdir()
    overrides = [f"output={tmp_path / 'run'}", f"data.path={tmp_path / 'data'}"]
    with pytest.raises(RecipeError, match="the teacher's recipe smalltalk-teacher.yaml has not run"):
        run_recipe(load_recipe(ROOT / "recipes" / "smalltalk.yaml", overrides), only="sft")
