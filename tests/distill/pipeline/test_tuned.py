"""A model that learns its part first: from random weights or from a folder, with or without adapters."""

from pathlib import Path

import pytest

from distill.data import Conversation, Message
from distill.errors import RecipeError
from distill.models import ModelSettings
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.tuned import described_model, fingerprint_of, tuned_model
from distill.training import TrainSettings

SHAPE = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16}
TUNING = TrainSettings(
    objective={"name": "sft"}, learning_rate=1e-2, max_steps=1, global_batch_size=2, max_length_tokens=64
)
EXAMPLES = [Conversation(str(n), (Message("user", "one tea"), Message("assistant", f"{n} dollars"))) for n in range(3)]


@pytest.fixture
def run(tiny_recipe: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(load_recipe(tiny_recipe), tmp_path)


def test_a_random_start_gets_a_tokenizer_of_the_examples_and_goes_on_from_its_folder(run: RunFolder, tmp_path: Path):
    settings = ModelSettings(scratch=SHAPE, tokenizer_vocab_size=270)
    folder = tuned_model(run, settings, TUNING, EXAMPLES, folder=tmp_path / "a")
    source = described_model(run, settings, folder)
    before = fingerprint_of(source)
    assert before == source.load().fingerprint
    assert tuned_model(run, settings, TUNING, EXAMPLES, folder=tmp_path / "a") == folder
    assert fingerprint_of(source) == before


def test_adapters_learn_on_a_folders_weights(run: RunFolder, tiny_recipe: Path, tmp_path: Path):
    base = str(tiny_recipe.parent / "student")
    settings = ModelSettings(path=base, lora={"rank": 2})
    folder = tuned_model(run, settings, TUNING, EXAMPLES, folder=tmp_path / "b")
    plain = fingerprint_of(described_model(run, ModelSettings(path=base), None))
    assert fingerprint_of(described_model(run, settings, folder)) != plain


def test_random_weights_need_a_tokenizer_of_their_own(run: RunFolder, tmp_path: Path):
    with pytest.raises(RecipeError, match="tokenizer_vocab_size is not set"):
        tuned_model(run, ModelSettings(scratch=SHAPE), TUNING, EXAMPLES, folder=tmp_path)
