import json

import pytest
import torch
from safetensors import safe_open

from distill.data import CHAT_TEMPLATE
from distill.models import folder_size_bytes, load_model, new_model, save_model

IDS = torch.tensor([[5, 6, 7, 8]])


def stored(folder) -> dict[str, torch.Tensor]:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_comes_back(tokenizer, sizes, tmp_path, tied: bool):
    model = new_model(sizes.model_copy(update={"tie_embeddings": tied}), tokenizer, seed=0)
    save_model(model, tokenizer, tmp_path / "model")
    torch.testing.assert_close(load_model(tmp_path / "model").model(IDS).logits, model(IDS).logits)


def test_chat_template_stands_where_old_and_new_readers_look(saved):
    assert (saved / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    assert json.loads((saved / "tokenizer_config.json").read_text())["chat_template"] == CHAT_TEMPLATE


def test_generation_stops_where_the_configuration_says(saved, tokenizer):
    assert json.loads((saved / "generation_config.json").read_text())["eos_token_id"] == [tokenizer.eos_token_id]


def test_all_files_can_be_read_by_everyone(saved):
    assert {path.stat().st_mode & 0o777 for path in saved.iterdir()} == {0o644}


def test_weights_are_stored_in_the_dtype_asked_for_and_the_model_keeps_its_own(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path / "half", dtype=torch.bfloat16)
    assert {weight.dtype for weight in stored(tmp_path / "half").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    assert model.dtype == torch.float32
    assert load_model(tmp_path / "half").model.dtype == torch.float32


def test_tied_embeddings_are_stored_once(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path / "half", dtype=torch.bfloat16)
    assert "lm_head.weight" not in stored(tmp_path / "half")


def test_weights_gathered_elsewhere_can_be_given(model, tokenizer, tmp_path):
    weights = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    save_model(model, tokenizer, tmp_path / "zeros", state_dict=weights)
    assert not any(weight.any() for weight in stored(tmp_path / "zeros").values())


def test_a_folder_is_replaced_whole(model, tokenizer, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "left-over").write_text("old")
    save_model(model, tokenizer, tmp_path / "model")
    assert not (tmp_path / "model" / "left-over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_save_that_fails_leaves_what_was_there(model, tokenizer, saved):
    before = folder_size_bytes(saved)
    with pytest.raises(AttributeError):
        save_model(model, None, saved)  # type: ignore[arg-type]
    assert folder_size_bytes(saved) == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_size_of_a_folder_is_the_sum_of_its_files(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "inner" / "b").write_bytes(b"4567")
    assert folder_size_bytes(tmp_path) == 7
