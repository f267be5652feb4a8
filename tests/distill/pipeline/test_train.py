import re
import shutil
from pathlib import Path

import pytest
import torch

from distill.errors import CacheError
from distill.models import load_model
from distill.pipeline.manifest import read_manifest
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.train import run_train
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
