import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from distill.errors import DistillError, RecipeError, StageError
from distill.files import read_json
from distill.pipeline.manifest import read_manifest
from distill.pipeline.recipe import LoadedRecipe, load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import plan, run_recipe
from distill.progress import read_metrics
from distill.teacher_cache import TeacherCache, verify

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


@pytest.mark.slow
def test_commands_that_know_nothing_of_each_other_fill_one_runs_caches(tiny_recipe: Path, tmp_path: Path):
    """An array job: the same command three times, on a run whose pairs stand; then train finds whole caches."""
    words = [str(tiny_recipe), f"output={tmp_path / 'run'}", "cache.shard_tokens=8", "cache.lease_s=5"]
    loaded = load_recipe(tiny_recipe, words[1:])
    run_recipe(loaded, until="pairs")
    command = [sys.executable, "-m", "distill", "cache", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in started:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert read_manifest(tmp_path / "run" / "cache").status == "done"
    for name in ("teacher", "reference"):
        verify(tmp_path / "run" / "cache" / name)
    assert next(decision for decision in plan(loaded) if decision.stage == "cache").action == "skip"


@pytest.mark.slow
def test_the_ranks_of_a_launcher_fill_one_runs_caches(tiny_recipe: Path, finished: RunFolder, tmp_path: Path):
    """The teacher is cut over both ranks, which score it together; for the reference each rank is a worker."""
    shutil.copytree(finished.output, tmp_path / "run", ignore=shutil.ignore_patterns("cache", "train", "export"))
    words = [f"output={tmp_path / 'run'}", "teacher.placement=zero-3", "cache.shard_tokens=8"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = subprocess.run(
        [*launcher, "-m", "distill", "cache", str(tiny_recipe), *words, "--json"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert {row["what"] for row in json.loads(result.stdout)} == {"teacher", "reference"}
    for name in ("teacher", "reference"):
        verify(tmp_path / "run" / "cache" / name)
        ours, theirs = (TeacherCache.open(run / "cache" / name) for run in (tmp_path / "run", finished.output))
        ids = theirs.sequence_ids
        torch.testing.assert_close(ours.token_log_probs(ids), theirs.token_log_probs(ids), rtol=0, atol=1e-3)
    assert next(d for d in plan(load_recipe(tiny_recipe, words)) if d.stage == "cache").action == "skip"


def _command(*words: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "distill", *map(str, words)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_nproc_trains_with_two_ranks_as_one_process_does(tiny_recipe: Path, finished: RunFolder, tmp_path: Path):
    left = shutil.ignore_patterns("train", "export", "evaluate", "report")
    shutil.copytree(finished.output, tmp_path / "run", ignore=left)
    words = [tiny_recipe, f"output={tmp_path / 'run'}", "--until", "train", "--nproc", 2, "--json"]
    result = _command("run", *words)
    assert result.returncode == 0, result.stderr[-4000:]
    assert json.loads(result.stdout) == [{"what": "output", "value": str(tmp_path / "run")}]
    ours, alone = (read_metrics(run / "train" / "metrics.jsonl") for run in (tmp_path / "run", finished.output))
    assert [row["loss"] for row in ours if "loss" in row] == pytest.approx(
        [row["loss"] for row in alone if "loss" in row], abs=1e-5
    )
    record = read_json(tmp_path / "run" / "train" / "checkpoints" / "step_000002" / "checkpoint.json")
    assert record["world_size"] == 2


@pytest.mark.slow
def test_what_the_ranks_refuse_is_told_once_and_keeps_its_exit_code(tiny_recipe: Path, tmp_path: Path):
    result = _command("train", tiny_recipe, f"output={tmp_path / 'run'}", "--nproc", 2)
    assert (result.returncode, result.stdout) == (2, "")
    said = "error: stage train needs stage pairs, which does not stand (not made yet)\nfix: distill run tiny.yaml"
    assert result.stderr.count("error: ") == result.stderr.count(said) == 1
    assert "Traceback" not in result.stderr


def test_a_cache_that_others_write_is_not_started_over(tiny_recipe: Path, finished: RunFolder, tmp_path: Path):
    """A claim whose lease runs stands for a worker at work."""
    shutil.copytree(finished.output, tmp_path / "run")
    claim = tmp_path / "run" / "cache" / "teacher" / "claims" / "exact-00000.json"
    claim.parent.mkdir(exist_ok=True)
    claim.write_text('{"worker": "another", "lease_s": 60.0}')
    loaded = load_recipe(tiny_recipe, [f"output={tmp_path / 'run'}"])
    with pytest.raises(StageError, match=r"cache/teacher is being written by other workers\nwhy: .*\nfix: wait"):
        run_recipe(loaded, only="cache", force=["cache"])
    claim.unlink()
    run_recipe(loaded, only="cache", force=["cache"])
