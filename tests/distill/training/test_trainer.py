import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.errors import RecipeError, TrainingError
from distill.models import LoraSettings, add_lora, load_model
from distill.progress import read_metrics
from distill.training import train
from distill.training.trainer import require_examples
from distill.training.training_run import prepared_module
from tests.distill.training.examples import (
    ROOT,
    Scored,
    dialogues,
    job_command,
    job_environment,
    new_student,
    pairs,
    run_job,
    settings,
)


def weights(output: Path) -> dict[str, torch.Tensor]:
    return load_file(output / "model" / "model.safetensors")


def test_sft_learns_and_leaves_a_model_its_metrics_and_a_report(tmp_path: Path):
    chosen = settings(max_steps=12, learning_rate=2e-2, evaluate_every_steps=6, save_every_steps=5)
    report = train(
        new_student(), dialogues(32), settings=chosen, output_dir=tmp_path, seed=1, validation=dialogues(5, seed=1)
    )
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "loss" in row]
    held_out = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "valid_loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert [row["step"] for row in held_out] == [6, 12]
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.3
    assert {"lr", "grad_norm", "tokens_per_s", "elapsed_s", "num_tokens", "feed_wait_s"} <= rows[0].keys()
    assert 0 < sum(row["feed_wait_s"] for row in rows) < rows[-1]["elapsed_s"]
    assert report.final_step == 12
    assert report.valid_loss == held_out[-1]["valid_loss"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step_000010", "step_000012"]
    assert load_model(tmp_path / "model").model.config.hidden_size == 16


@pytest.mark.parametrize(
    "objective",
    [{"name": "dpo"}, {"name": "dadpo", "token_divergence": {"weight": 0.1}}, {"name": "kd"}],
    ids=lambda objective: str(objective["name"]),
)
def test_pair_objectives_learn_from_the_cache(tmp_path: Path, scored: Scored, objective: dict[str, object]):
    chosen = settings(objective=objective, max_steps=8, learning_rate=1e-2)
    train(
        new_student(),
        scored.pairs,
        settings=chosen,
        output_dir=tmp_path,
        seed=1,
        teacher_cache=scored.teacher,
        reference_cache=scored.reference,
        validation=scored.pairs,
    )
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[-1]["valid_loss"] < rows[0]["loss"]
    assert all(row["step"] for row in rows)


def test_dpo_starts_at_ln_2_with_no_margin(tmp_path: Path, scored: Scored):
    """Policy and reference are the same model: margin 0, loss -ln sigmoid(0) = ln 2."""
    chosen = settings(objective={"name": "dpo"}, max_steps=1)
    train(new_student(), scored.pairs, settings=chosen, output_dir=tmp_path, seed=1, reference_cache=scored.reference)
    first = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert first["margin"] == pytest.approx(0.0, abs=1e-5)


def test_a_finished_run_is_returned_without_training(tmp_path: Path):
    def trained() -> object:
        return train(new_student(), dialogues(16), settings=settings(), output_dir=tmp_path, seed=1)

    first = trained()
    stamp = (tmp_path / "metrics.jsonl").stat().st_mtime_ns
    assert trained() == first
    assert (tmp_path / "metrics.jsonl").stat().st_mtime_ns == stamp


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path):
    train(new_student(), dialogues(16), settings=settings(), output_dir=tmp_path, seed=1)
    with pytest.raises(TrainingError, match="step_000004 was made under other settings"):
        train(new_student(), dialogues(16), settings=settings(learning_rate=1e-4), output_dir=tmp_path, seed=1)


def test_examples_of_the_wrong_kind_are_refused():
    with pytest.raises(RecipeError, match="objective sft learns from conversations, and the examples are pairs"):
        require_examples(pairs(1), settings())
    with pytest.raises(RecipeError, match="objective dpo learns from pairs"):
        require_examples(dialogues(1), settings(objective={"name": "dpo"}))
    with pytest.raises(RecipeError, match="there are no examples"):
        require_examples([], settings())


def test_gradient_checkpointing_changes_no_figure(tmp_path: Path):
    for name, checkpointing in (("plain", False), ("checkpointing", True)):
        chosen = settings(gradient_checkpointing=checkpointing)
        train(new_student(), dialogues(16), settings=chosen, output_dir=tmp_path / name, seed=1)
    torch.testing.assert_close(weights(tmp_path / "plain"), weights(tmp_path / "checkpointing"))


def test_a_student_in_bfloat16_is_trained_in_the_dtype_asked_for():
    student = new_student()
    student.model = student.model.to(torch.bfloat16)  # type: ignore[arg-type]
    assert {p.dtype for p in prepared_module(student, settings()).parameters()} == {torch.float32}


@pytest.mark.slow
def test_a_run_killed_in_the_middle_ends_with_the_same_bits(tmp_path: Path):
    """SIGKILL some steps after a checkpoint; the second start ends with the weights of a run that nobody killed."""
    changes = {"max_steps": 60, "save_every_steps": 4, "learning_rate": 1e-2}
    whole = {"output": str(tmp_path / "whole"), "settings": changes}
    killed = {"output": str(tmp_path / "killed"), "settings": changes}
    run_job(whole)
    process = subprocess.Popen(job_command(killed), env=job_environment(), stderr=subprocess.DEVNULL)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while process.poll() is None and len(read_metrics(metrics)) < 10:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()
    run_job(killed)
    torch.testing.assert_close(weights(tmp_path / "killed"), weights(tmp_path / "whole"), rtol=0, atol=0)
    steps = [row["step"] for row in read_metrics(metrics) if "loss" in row]
    assert steps == list(range(1, 61))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "has_adapters"),
    [("zero2_offload", False), ("zero3_offload", False), (None, True), ("zero3_offload", True)],
)
def test_a_memory_plan_resumes_where_it_stopped(tmp_path: Path, plan: str | None, has_adapters: bool):
    """Taking away the last checkpoint and the result makes the run go on from the one before."""
    path = None if plan is None else str(ROOT / "ds_configs" / f"{plan}.json")
    changes = {"deepspeed": path, "max_steps": 6, "save_every_steps": 3}

    def trained() -> dict[str, torch.Tensor]:
        student = new_student()
        if has_adapters:
            student.model = add_lora(student.model, LoraSettings(rank=2), seed=0)  # type: ignore[arg-type]
        train(student, dialogues(32), settings=settings(**changes), output_dir=tmp_path, seed=1)
        return load_file(tmp_path / "model" / ("adapter_model.safetensors" if has_adapters else "model.safetensors"))

    uninterrupted = trained()
    shutil.rmtree(tmp_path / "checkpoints" / "step_000006")
    (tmp_path / "train_report.json").unlink()
    torch.testing.assert_close(trained(), uninterrupted, rtol=0, atol=0)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]
