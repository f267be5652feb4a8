import json
import os

import pytest
import torch

from distill.data import CHAT_TEMPLATE
from distill.errors import ModelError
from distill.export.gguf import write_gguf
from distill.models import (
    LoraSettings,
    add_lora,
    load_model,
    model_fingerprint,
    resolved_device,
    save_model,
    train_tokenizer,
)

IDS = torch.tensor([[5, 6, 7, 8]])


def test_a_loaded_model_is_ready_to_answer(saved, tokenizer):
    loaded = load_model(saved)
    assert not loaded.model.training
    assert loaded.source == str(saved)
    assert loaded.model.dtype == torch.float32
    assert loaded.model.config._attn_implementation == "sdpa"
    assert loaded.model.generation_config.eos_token_id == [tokenizer.eos_token_id]
    assert loaded.tokenizer.pad_token_id == tokenizer.pad_token_id


def test_fingerprint_knows_weights_dtype_and_quantization(saved):
    prints = [
        load_model(saved).fingerprint,
        load_model(saved, dtype="bfloat16").fingerprint,
        load_model(saved, quantization="nf4").fingerprint,
    ]
    assert len(set(prints)) == 3
    assert load_model(saved).fingerprint == prints[0]


@torch.no_grad()
def test_a_gguf_file_says_what_the_folder_says(saved, tmp_path):
    write_gguf(saved, tmp_path / "model.gguf", file_type="f32")
    loaded = load_model(tmp_path / "model.gguf")
    torch.testing.assert_close(loaded.model(IDS).logits, load_model(saved).model(IDS).logits, atol=1e-5, rtol=0)


def test_code_in_a_model_folder_never_runs(saved, tmp_path):
    config = json.loads((saved / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Own", "AutoConfig": "own.OwnConfig"}}
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError):
        load_model(saved)
    assert not (tmp_path / "ran").exists()


def test_a_configuration_that_does_not_fit_the_weights_is_refused(saved):
    config = json.loads((saved / "config.json").read_text()) | {"hidden_size": 64}
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be built"):
        load_model(saved)


def test_a_tokenizer_without_chat_template_is_refused(bare):
    with pytest.raises(ModelError, match=r"has no chat template\n(.|\n)*chat_template=FILE.jinja"):
        load_model(bare)


@pytest.fixture
def bare(model, texts, tmp_path):
    save_model(model, train_tokenizer(texts, vocab_size=320, chat_template=""), tmp_path / "bare")
    return tmp_path / "bare"


@pytest.fixture
def template(tmp_path):
    (tmp_path / "own.jinja").write_text("{% for m in messages %}{{ m.content }}<|end|>{% endfor %}")
    return tmp_path / "own.jinja"


def test_a_template_file_stands_in_for_the_tokenizers_own(bare, template):
    loaded = load_model(bare, chat_template=template)
    assert loaded.tokenizer.chat_template == template.read_text()


def test_a_model_under_another_template_has_another_fingerprint(saved, template):
    assert load_model(saved, chat_template=template).fingerprint != load_model(saved).fingerprint


def test_a_saved_model_carries_the_template_it_was_loaded_with(bare, template, tmp_path):
    loaded = load_model(bare, chat_template=template)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "whole")
    assert load_model(tmp_path / "whole").tokenizer.chat_template == template.read_text()


def test_adapters_carry_a_template_that_their_base_lacks(bare, template, tmp_path):
    loaded = load_model(bare, chat_template=template)
    model = add_lora(loaded.model, LoraSettings(rank=2), seed=0)
    save_model(model, loaded.tokenizer, tmp_path / "adapters")
    assert load_model(tmp_path / "adapters").tokenizer.chat_template == template.read_text()


@pytest.mark.parametrize(("device", "message"), [("gpu9", "torch knows no such device"), ("cuda", "torch sees no GPU")])
def test_devices_that_are_not_here_are_refused(device: str, message: str):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelError, match=message):
        resolved_device(device)


def test_auto_is_a_device_of_this_machine():
    assert resolved_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolved_device("cpu") == "cpu"


def test_adapters_that_do_not_fit_their_base_are_refused(saved, tokenizer, tmp_path):
    model = add_lora(load_model(saved).model, LoraSettings(rank=2), seed=0)
    save_model(model, tokenizer, tmp_path / "adapters")
    path = tmp_path / "adapters" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"r": 5}))
    with pytest.raises(ModelError, match="do not fit"):
        load_model(tmp_path / "adapters")


def test_adapters_of_adapters_are_refused(saved, tokenizer, tmp_path):
    model = add_lora(load_model(saved).model, LoraSettings(rank=2), seed=0)
    save_model(model, tokenizer, tmp_path / "first")
    save_model(model, tokenizer, tmp_path / "second")
    path = tmp_path / "second" / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": str(tmp_path / "first")}
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="which are adapters themselves"):
        load_model(tmp_path / "second")


def test_the_fingerprint_of_a_model_is_told_without_building_it(saved, tmp_path):
    template = tmp_path / "other.jinja"
    template.write_text("{# of another hand #}" + CHAT_TEMPLATE)
    for options in ({}, {"dtype": "bfloat16"}, {"chat_template": template}):
        assert model_fingerprint(saved, **options) == load_model(saved, **options).fingerprint


def test_loading_leaves_the_environment_as_it_was(saved, monkeypatch):
    for value in (None, "0"):
        if value is not None:
            monkeypatch.setenv("HF_DEACTIVATE_ASYNC_LOAD", value)
        load_model(saved)
        assert os.environ.get("HF_DEACTIVATE_ASYNC_LOAD") == value
