"""One run of every stage on tiny random models, shared by the tests of the stages."""

from pathlib import Path

import pytest

from distill.data import CHAT_TEMPLATE
from distill.models import ScratchSettings, new_model, save_model, train_tokenizer
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import run_recipe

SHAPE = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_length_tokens=1024)
RECIPE = """
description: Every stage <once>, on random weights.
teacher: {{path: {models}/teacher}}
student: {{path: {models}/student}}
output: {output}
data: {{source: embedded, num_teacher: 0, num_prompts: 3, num_labelled: 0, num_valid: 2, num_test: 2}}
pairs:
  turn: last
  keep_unfinished: true
  teacher_sampling: {{max_new_tokens: 6}}
  student_sampling: {{max_new_tokens: 6}}
cache: {{codec: exact, max_length_tokens: 1024}}
train:
  objective: {{name: dadpo, token_divergence: {{name: forward_kl, weight: 0.5}}}}
  learning_rate: 1.0e-3
  max_steps: 2
  global_batch_size: 2
  micro_batch_size: 2
  max_length_tokens: 1024
export: {{formats: [safetensors], max_new_tokens: 4, num_smoke_prompts: 2, measures_speed: false}}
evaluate:
  num_conversations: 2
  num_divergence_conversations: 2
  num_export_conversations: 1
  num_samples_shown: 1
  sampling: {{temperature: 0.0, max_new_tokens: 2, batch_size: 256}}
"""


def save_tiny(folder: Path, *, seed: int, text: str = "one tea please, that is three dollars") -> None:
    """A model of random weights; two with one `text` share their tokenizer."""
    tokenizer = train_tokenizer([text] * 4, vocab_size=280, chat_template=CHAT_TEMPLATE)
    save_model(new_model(SHAPE, tokenizer, seed=seed), tokenizer, folder)


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of every stage but sft, beside the two models it names."""
    folder = tmp_path_factory.mktemp("pipeline")
    save_tiny(folder / "teacher", seed=0)
    save_tiny(folder / "student", seed=1)
    save_tiny(folder / "stranger", seed=1, text="words of quite another tongue")
    (folder / "tiny.yaml").write_text(RECIPE.format(models=folder, output=folder / "run"))
    return folder / "tiny.yaml"


@pytest.fixture(scope="session")
def finished(tiny_recipe: Path) -> RunFolder:
    """The run of that recipe, every stage done."""
    return run_recipe(load_recipe(tiny_recipe))
