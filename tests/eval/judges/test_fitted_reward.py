from pathlib import Path

import pytest

from distill.data import Message
from distill.errors import RecipeError
from distill.models import LoadedModel, ScratchSettings, load_model, new_model, save_model
from eval.judges.fitted_reward import MARK, RewardFit, fitted_reward

SHAPE = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_length_tokens=2048)
SMALL = {"num_dialogues": 8, "num_held_out": 4}


@pytest.fixture(scope="module")
def body(make_model, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Untrained, and long enough for the world's dialogues in bytes."""
    tokenizer, folder = make_model(5).tokenizer, tmp_path_factory.mktemp("body")
    save_model(new_model(SHAPE, tokenizer, seed=0), tokenizer, folder)
    return load_model(folder, device="cpu")


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_model_is_fitted_once_and_then_read_until_the_dialogues_change(body: LoadedModel, tmp_path: Path):
    dialogue = [Message("user", "hello"), Message("assistant", "a coffee")]
    model, fit = fitted_reward(body, tmp_path, **SMALL)
    assert (fit.body, fit.num_dialogues, fit.num_held_out) == (body.fingerprint, 8, 4)
    assert 0.0 <= fit.accuracy <= 1.0
    assert fit.num_pairs > 0
    written = stamps(tmp_path)
    again, same = fitted_reward(body, tmp_path, **SMALL)
    assert (same, stamps(tmp_path)) == (fit, written)
    assert again.identity == model.identity
    assert again.score([dialogue]).item() == model.score([dialogue]).item()
    _, other = fitted_reward(body, tmp_path, num_dialogues=9, num_held_out=4)
    assert other.num_dialogues == 9
    assert stamps(tmp_path)[MARK] != written[MARK]


def test_a_folder_without_its_mark_is_fitted_again_and_a_damaged_mark_is_refused(body: LoadedModel, tmp_path: Path):
    """The mark is written last: a fit that was killed has none."""
    _, fit = fitted_reward(body, tmp_path, **SMALL)
    (tmp_path / MARK).unlink()
    assert fitted_reward(body, tmp_path, **SMALL)[1] == fit
    assert RewardFit.model_validate_json((tmp_path / MARK).read_text()) == fit
    (tmp_path / MARK).write_text('{"body": "x"}')
    with pytest.raises(RecipeError, match=r"fit\.json: .*num_dialogues"):
        fitted_reward(body, tmp_path, **SMALL)
