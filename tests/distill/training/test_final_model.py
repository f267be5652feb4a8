from pathlib import Path

import pytest
import torch

from distill.models import LoadedModel, LoraSettings, add_lora, load_model, save_model
from distill.models.world import process_group
from distill.training.engine import start_engine
from distill.training.final_model import save_student
from distill.training.training_run import prepared_module
from tests.distill.training.examples import ROOT, new_student, settings


def saved(student: LoadedModel, folder: Path, *, plan: str | None = None) -> None:
    chosen = settings(deepspeed=None if plan is None else str(ROOT / "ds_configs" / plan))
    with process_group() as world:
        engine = start_engine(prepared_module(student, chosen), chosen)
        save_student(engine, student, folder, settings=chosen, world=world)
        engine.destroy()


@pytest.mark.parametrize("plan", [None, pytest.param("zero3_offload.json", marks=pytest.mark.slow)])
def test_the_saved_model_is_the_student(tmp_path: Path, plan: str | None):
    saved(new_student(), tmp_path / "model", plan=plan)
    loaded, expected = load_model(tmp_path / "model").model, new_student().model
    torch.testing.assert_close(loaded.state_dict(), expected.state_dict(), rtol=0, atol=0)
    assert loaded.config.use_cache


def test_a_student_with_adapters_saves_them_alone(tmp_path: Path):
    base = new_student()
    save_model(base.model, base.tokenizer, tmp_path / "base")
    student = load_model(tmp_path / "base")
    student.model = add_lora(student.model, LoraSettings(rank=2), seed=0)  # type: ignore[arg-type]
    saved(student, tmp_path / "model")
    assert (tmp_path / "model" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "model" / "model.safetensors").exists()
