import torch

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


def test_before_the_first_step_the_policy_is_the_reference(finished: RunFolder):
    """Rewards are log-ratios of policy and reference, so they are 0 until the first update."""
    (first, *_) = read_metrics(finished.stage("train") / "metrics.jsonl")
    assert abs(first["chosen_reward"]) < 1e-4
    assert abs(first["rejected_reward"]) < 1e-4


def test_a_finished_training_is_not_done_again(finished: RunFolder):
    weights = finished.final_source / "model.safetensors"
    before = weights.stat().st_mtime_ns
    summary = run_train(finished)
    assert weights.stat().st_mtime_ns == before
    assert summary["final_step"] == read_manifest(finished.stage("train")).summary["final_step"] == 2
