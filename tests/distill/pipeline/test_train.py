import re
import shutil
from pathlib import Path

import pytest
import torch

import distill.teacher_cache
from distill.data import CHAT_TEMPLATE
from distill.errors import CacheError
from distill.models import load_model
from distill.pipeline.manifest import read_manifest
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import run_recipe
from distill.pipeline.train import cache_of_teacher, run_train
from distill.progress import read_metrics


def test_training_changes_the_student_and_says_how(finished: RunFolder):
    before = load_model(finished.start_source).model.state_dict()
    after = load_model(finished.final_source).model.state_dict()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    (first, *_) = read_metrics(finished.stage("train") / "metrics.jsonl")
    assert {"loss", "margin", "delta_te", "pair_weight", "accuracy", "chosen_reward", "tokens_per_s"} <= first.keys()


def test_before_the_first_update_the_margin_is_the_teachers_alone(finished: RunFolder):
    """Policy = reference: of the margin only beta_teacher log(reference / teacher) is left, -beta_teacher delta_te."""
    (first, *_) = read_metrics(finished.stage("train") / "metrics.jsonl")
    assert first["margin"] == pytest.approx(-0.05 * first["delta_te"], abs=1e-5)


def test_a_finished_training_is_not_done_again(finished: RunFolder):
    weights = finished.final_source / "model.safetensors"
    before = weights.stat().st_mtime_ns
    summary = run_train(finished)
    assert weights.stat().st_mtime_ns == before
    assert summary["final_step"] == read_manifest(finished.stage("train")).summary["final_step"] == 2


CHANGED = {
    "teacher_fingerprint": '"teacher_fingerprint": "other"',
    "tokenizer_fingerprint": '"tokenizer_fingerprint": "other"',
    "template_hash": '"template_hash": "other"',
    "max_length_tokens": '"max_length_tokens": 7',
    "data_fingerprint": '"data_fingerprint": "other"',
}


@pytest.mark.parametrize("name", ["teacher", "reference"])
@pytest.mark.parametrize("field", sorted(CHANGED))
def test_a_cache_made_from_something_else_is_refused_by_field(finished: RunFolder, tmp_path: Path, name, field):
    shutil.copytree(finished.output, tmp_path / "run")
    run = RunFolder(finished.loaded, tmp_path / "run", finished.made_teacher)
    manifest = run.stage("cache") / name / "manifest.json"
    text, count = re.subn(rf'"{field}": [^,]*', CHANGED[field], manifest.read_text())
    assert count == 1
    manifest.write_text(text)
    with pytest.raises(
        CacheError, match=rf"{field} is '?(other|7)'?, but .* is asked for\nwhy: .*\nfix: make the cache"
    ):
        run_train(run)


def test_answers_that_the_student_draws_are_read_by_the_recipes_teacher(finished: RunFolder, tmp_path: Path):
    shutil.copytree(finished.output, tmp_path / "run")
    drawn = load_recipe(
        finished.loaded.path,
        ["train.objective={name: gkd, on_policy_share: 1.0, max_new_tokens: 3}", f"output={tmp_path / 'run'}"],
    )
    run = run_recipe(drawn, only="train")
    rows = read_metrics(run.stage("train") / "metrics.jsonl")
    assert [row["is_on_policy"] for row in rows if "loss" in row] == [1.0, 1.0]
    assert all(row["token_divergence"] > 0 for row in rows if "loss" in row)


def _refused_field(run: RunFolder) -> tuple[str, str]:
    """The field that a cache is refused by, and the value that was asked for; what the cache has is told too."""
    with pytest.raises(CacheError, match="asked for\nwhy: scores made from one thing.*\nfix: make the cache") as caught:
        cache_of_teacher(run)
    told = re.search(r": (\w+) is (.+), but (.+) is asked for$", caught.value.what)
    assert told is not None
    field, found, asked = told.groups()
    own = distill.teacher_cache.read_manifest(run.stage("cache") / "teacher")
    assert found == repr(getattr(own, field)) != asked
    return field, asked


def _changed(finished: RunFolder, *overrides: str) -> RunFolder:
    """The finished run under a changed recipe."""
    return RunFolder(load_recipe(finished.loaded.path, overrides), finished.output)


def test_a_cache_of_an_unchanged_recipe_is_taken(finished: RunFolder):
    assert len(cache_of_teacher(_changed(finished))) > 0


def test_a_changed_chat_template_refuses_the_cache(finished: RunFolder, tmp_path: Path):
    (tmp_path / "other.jinja").write_text("{# other #}" + CHAT_TEMPLATE)
    run = _changed(finished, f"teacher.chat_template={tmp_path / 'other.jinja'}")
    assert _refused_field(run)[0] == "template_hash"


def test_a_changed_tokenizer_refuses_the_cache(finished: RunFolder):
    run = _changed(finished, f"teacher.path={finished.loaded.path.parent / 'stranger'}")
    assert _refused_field(run)[0] == "tokenizer_fingerprint"


def test_a_changed_revision_of_the_teacher_refuses_the_cache(finished: RunFolder, tmp_path: Path):
    """The same names, tokenizer and template; other weights."""
    shutil.copytree(finished.teacher_source, tmp_path / "teacher")
    shutil.copy(Path(finished.start_source) / "model.safetensors", tmp_path / "teacher")
    assert _refused_field(_changed(finished, f"teacher.path={tmp_path / 'teacher'}"))[0] == "teacher_fingerprint"


def test_a_changed_truncation_refuses_the_cache(finished: RunFolder):
    run = _changed(finished, "cache.max_length_tokens=1000", "train.max_length_tokens=1000")
    assert _refused_field(run) == ("max_length_tokens", "1000")


def test_a_changed_data_set_refuses_the_cache(finished: RunFolder, tmp_path: Path):
    shutil.copytree(finished.output, tmp_path / "run")
    pairs = tmp_path / "run" / "pairs" / "pairs.jsonl"
    pairs.write_text("".join(pairs.read_text().splitlines(keepends=True)[1:]))
    assert _refused_field(RunFolder(finished.loaded, tmp_path / "run"))[0] == "data_fingerprint"
