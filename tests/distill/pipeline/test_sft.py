from pathlib import Path

import pytest
import torch

from distill.data import Conversation, Message
from distill.models import load_model, save_model
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import new_student

RECIPE = """
output: run
student:
  scratch: {hidden_size: 16, num_layers: 1, num_heads: 2, intermediate_size: 16}
  tokenizer_vocab_size: 280
  lora: {rank: 2}
data: {source: embedded, num_teacher: 2, num_prompts: 0, num_labelled: 0, num_valid: 2, num_test: 2}
sft:
  {answers: data, objective: {name: sft}, learning_rate: 1.0e-3, max_steps: 2, global_batch_size: 2,
   micro_batch_size: 2}
"""
CONVERSATIONS = [Conversation("c", (Message("user", "One tea, please."), Message("assistant", "Here it is.")))]
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(load_recipe(RECIPE), tmp_path / "run")


@torch.no_grad()
def test_adapters_of_a_new_student_load_back_onto_the_base_that_was_saved(run: RunFolder, tmp_path: Path):
    student = new_student(run, CONVERSATIONS)
    for name, parameter in student.model.named_parameters():
        if "lora_B" in name:
            parameter += 1.0
    save_model(student.model, student.tokenizer, tmp_path / "model")
    student.model.eval()
    torch.testing.assert_close(load_model(tmp_path / "model").model(IDS).logits, student.model(IDS).logits)


def test_a_student_that_starts_again_starts_from_the_base_that_stands(run: RunFolder):
    first = new_student(run, CONVERSATIONS)
    stamp = (run.stage("sft") / "base" / "model.safetensors").stat().st_mtime_ns
    again = new_student(run, CONVERSATIONS)
    assert (run.stage("sft") / "base" / "model.safetensors").stat().st_mtime_ns == stamp
    assert again.fingerprint == first.fingerprint
    for one, two in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)
