"""Whole f-DPG runs of a tiny student."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.errors import RecipeError
from distill.progress import read_metrics
from distill.training.f_dpg_trainer import require_whole_student, train_f_dpg
from tests.distill.training.examples import new_student
from tests.distill.training.f_dpg_examples import f_dpg_settings, target_of, trained


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def _metrics(folder: Path) -> list[dict[str, float]]:
    return list(read_metrics(folder / "metrics.jsonl"))


@pytest.mark.slow
def test_the_student_nears_its_target(tmp_path: Path):
    """Of 4 tokens few hold an e at the start; half of the answers are to. 384 answers tell a share to 0.026."""
    settings = f_dpg_settings(max_steps=24, num_samples=32, learning_rate=2e-2, schedule="constant", max_reward=10.0)
    trained(tmp_path, settings)
    first, last = (
        {name: sum(row[name] for row in rows) / len(rows) for name in ("moment contains e", "kl_target_to_policy")}
        for rows in (_metrics(tmp_path)[:3], _metrics(tmp_path)[-6:])
    )
    assert first["moment contains e"] < 0.3
    assert last["moment contains e"] == pytest.approx(0.5, abs=0.1)
    assert last["kl_target_to_policy"] < first["kl_target_to_policy"] / 2


@pytest.mark.parametrize("proposal", ["online", "offline"])
def test_a_run_that_was_cut_off_ends_where_the_whole_one_does(tmp_path: Path, proposal: str):
    settings = f_dpg_settings(save_every_steps=2, proposal=proposal, proposal_update_steps=2)
    target = target_of(settings)
    trained(tmp_path / "whole", settings, target=target)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "model")
    (tmp_path / "cut" / "train_report.json").unlink()
    for folder in (tmp_path / "cut" / "checkpoints").iterdir():
        if int(folder.name.removeprefix("step_")) > 2:
            shutil.rmtree(folder)
    trained(tmp_path / "cut", settings, target=target)
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, rtol=0, atol=0)


def test_how_a_step_is_cut_into_passes_changes_nothing(tmp_path: Path):
    found = []
    for micro_batch_size in (None, 3):
        settings = f_dpg_settings(micro_batch_size=micro_batch_size, max_steps=1, max_reward=5.0)
        trained(tmp_path / str(micro_batch_size), settings)
        found.append(weights(tmp_path / str(micro_batch_size)))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6)


def test_a_run_without_prompts_is_refused(tmp_path: Path):
    settings = f_dpg_settings()
    with pytest.raises(RecipeError, match="there are no prompts"):
        train_f_dpg(
            new_student(),
            [],
            target=target_of(settings, is_fitted=False),
            settings=settings,
            divergence="forward_kl",
            output_dir=tmp_path,
            seed=0,
            models_fingerprint="",
        )


def test_weights_cut_over_ranks_are_refused(tmp_path: Path):
    plan = tmp_path / "zero3.json"
    plan.write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    with pytest.raises(RecipeError, match="is ZeRO-3"):
        require_whole_student(f_dpg_settings(deepspeed=plan))
