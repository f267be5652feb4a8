import shutil
from pathlib import Path

from distill.files import fingerprint
from distill.pipeline.decision import decide
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


def test_settings_of_a_later_stage_leave_earlier_ones_standing(tmp_path: Path):
    run_recipe(_recipe(tmp_path), until="prepare")
    assert _actions(_recipe(tmp_path, "sft.learning_rate=1e-3"))["prepare"] == "skip"


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


def test_another_tier_is_added_to_a_cache_that_stands(finished: RunFolder):
    """Only the tiers differ: the stage runs on what it holds. Anything else beside them starts it over."""
    more = load_recipe(finished.loaded.path, ["cache.codec=[scores,exact]", f"output={finished.output}"])
    decision = decide(RunFolder(more, finished.output), "cache", force=False, rerun=frozenset())
    assert (decision.action, decision.reason) == ("extend", "other tiers are asked for; what stands is kept")
    shards = load_recipe(
        finished.loaded.path, ["cache.codec=[scores,exact]", "cache.shard_tokens=9", f"output={finished.output}"]
    )
    decision = decide(RunFolder(shards, finished.output), "cache", force=False, rerun=frozenset())
    assert (decision.action, decision.reason) == ("restart", "changed since it was made: settings, tiers")
    decision = decide(RunFolder(more, finished.output), "cache", force=True, rerun=frozenset())
    assert decision.action == "restart"


def test_adding_a_tier_leaves_the_training_standing(finished: RunFolder, tmp_path: Path):
    """With the tier in the recipe and without it: what was asked for once stands, and nothing later runs again."""
    shutil.copytree(finished.output, tmp_path / "run")
    plain = load_recipe(finished.loaded.path, [f"output={tmp_path / 'run'}"])
    more = load_recipe(finished.loaded.path, [f"output={tmp_path / 'run'}", "cache.codec=[exact, scores]"])
    assert {name: _actions(more)[name] for name in ("pairs", "cache", "train")} == {
        "pairs": "skip",
        "cache": "extend",
        "train": "skip",
    }
    run_recipe(more, only="cache")
    for loaded in (plain, more):
        assert set(_actions(loaded).values()) == {"skip"}
    cut_off = read_manifest(tmp_path / "run" / "cache").model_copy(update={"status": "running"})
    write_manifest(tmp_path / "run" / "cache", cut_off)
    assert (_actions(more)["cache"], _actions(more)["train"]) == ("resume", "skip")


def test_who_fills_a_cache_does_not_make_it_another_one(finished: RunFolder):
    organised = ["cache.workers=3", "cache.lease_s=5", "cache.max_batch_tokens=99", f"output={finished.output}"]
    run = RunFolder(load_recipe(finished.loaded.path, organised), finished.output)
    assert decide(run, "cache", force=False, rerun=frozenset()).action == "skip"
