import json
from pathlib import Path

import pytest
from filelock import FileLock

from distill.errors import DistillError, RecipeError, StageError
from distill.files import fingerprint
from distill.pipeline.manifest import read_manifest, write_manifest
from distill.pipeline.recipe import LoadedRecipe, load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import plan, run_recipe
from distill.pipeline.stages import inputs_of

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


def test_a_stage_that_stands_is_skipped(tmp_path: Path):
    run_recipe(_recipe(tmp_path), until="prepare")
    before = (tmp_path / "prepare" / "manifest.json").read_bytes()
    run_recipe(_recipe(tmp_path), until="prepare")
    assert (tmp_path / "prepare" / "manifest.json").read_bytes() == before
    assert _actions(_recipe(tmp_path))["prepare"] == "skip"


def test_a_changed_setting_starts_the_stage_over_and_says_what_changed(tmp_path: Path):
    run_recipe(_recipe(tmp_path), until="prepare")
    (decision, *_) = plan(_recipe(tmp_path, "data.num_teacher=5"))
    assert (decision.action, decision.reason) == ("restart", "changed since it was made: data")
    run_recipe(_recipe(tmp_path, "data.num_teacher=5"), until="prepare")
    assert len((tmp_path / "prepare" / "teacher.jsonl").read_text().splitlines()) == 5


def test_a_stage_that_was_cut_off_is_resumed(tmp_path: Path):
    run_recipe(_recipe(tmp_path), until="prepare")
    cut_off = read_manifest(tmp_path / "prepare").model_copy(update={"status": "running"})
    write_manifest(tmp_path / "prepare", cut_off)
    assert _actions(_recipe(tmp_path))["prepare"] == "resume"


def test_a_forced_stage_starts_over(tmp_path: Path):
    run_recipe(_recipe(tmp_path), until="prepare")
    marker = tmp_path / "prepare" / "left-over"
    marker.touch()
    run_recipe(_recipe(tmp_path), until="prepare", force=["prepare"])
    assert not marker.exists()


def test_settings_of_a_later_stage_leave_earlier_ones_standing(tmp_path: Path):
    run_recipe(_recipe(tmp_path), until="prepare")
    assert _actions(_recipe(tmp_path, "sft.learning_rate=1e-3"))["prepare"] == "skip"


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


def test_a_stage_made_again_makes_the_later_ones_run_again(tmp_path: Path):
    until = _recipe(tmp_path)
    run_recipe(until, until="prepare")
    made = read_manifest(tmp_path / "prepare")
    run = RunFolder(until, tmp_path)
    key = fingerprint(inputs_of(run, "sft"))
    older = {"stage": "sft", "fingerprint": key, "started": "2000-01-01T00:00:00+00:00"}
    write_manifest(tmp_path / "sft", made.model_copy(update=older))
    (_, decision, *_) = plan(until)
    assert (decision.stage, decision.action, decision.reason) == ("sft", "restart", "prepare was made again since")


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
