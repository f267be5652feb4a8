import pytest
import torch
from safetensors.torch import load_file

from distill.errors import ExportError
from distill.export.bitsandbytes import write_bitsandbytes
from distill.export.gguf import write_gguf
from distill.export.merge import write_merged
from distill.models import LoraSettings, add_lora, load_model, save_model


def with_adapters(folder, target, *, quantization=None):
    """The model of `folder` with adapters that change its logits."""
    loaded = load_model(folder, quantization=quantization)
    model = add_lora(loaded.model, LoraSettings(rank=4, alpha=8), seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=generator)
    model.peft_config["default"].base_model_name_or_path = str(folder)
    save_model(model, loaded.tokenizer, target)
    return target


def logits(folder):
    with torch.inference_mode():
        return load_model(folder).model(torch.arange(30)[None]).logits


@pytest.mark.parametrize("student", ["llama_folder", "qwen2_folder"])
def test_merged_adapters_say_what_base_and_adapters_said(request, tmp_path, student):
    base = request.getfixturevalue(student)
    adapters = with_adapters(base, tmp_path / "adapters")
    report = write_merged(adapters, tmp_path / "merged", dtype="float32")
    assert report.merge_delta < 1e-3
    torch.testing.assert_close(logits(tmp_path / "merged"), logits(adapters), rtol=1e-4, atol=1e-3)
    assert (logits(tmp_path / "merged") - logits(base)).abs().max() > 0.1
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_adapters_on_four_bits_are_merged_into_what_these_stand_for(llama_folder, tmp_path):
    adapters = with_adapters(llama_folder, tmp_path / "adapters", quantization="nf4")
    report = write_merged(adapters, tmp_path / "merged", dtype="float32")
    assert report.base_quantization == "nf4"
    assert report.merge_delta < 1e-3
    torch.testing.assert_close(logits(tmp_path / "merged"), logits(adapters), rtol=1e-4, atol=1e-3)
    onto_plain = with_adapters(llama_folder, tmp_path / "plain")
    assert (logits(onto_plain) - logits(adapters)).abs().max() > 0.01


def test_a_quantized_model_is_not_rounded_again(llama_folder, tmp_path):
    write_bitsandbytes(llama_folder, tmp_path / "nf4", quantization="nf4")
    write_gguf(llama_folder, tmp_path / "model.gguf", file_type="q8_0")
    for source in (tmp_path / "nf4", tmp_path / "model.gguf"):
        with pytest.raises(ExportError, match="is quantized already"):
            write_merged(source, tmp_path / "merged", dtype="float32")
    assert not (tmp_path / "merged").exists()


def test_a_model_without_adapters_is_saved_as_it_is(llama_folder, tmp_path):
    report = write_merged(llama_folder, tmp_path / "merged", dtype="float32")
    assert (report.merge_delta, report.reload_delta) == (None, 0.0)
    expected, saved = (load_file(folder / "model.safetensors") for folder in (llama_folder, tmp_path / "merged"))
    assert all(torch.equal(saved[name], weights) for name, weights in expected.items())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_rounded_once(llama_folder, tmp_path, dtype):
    report = write_merged(llama_folder, tmp_path / "merged", dtype=dtype)
    assert report.reload_delta == 0.0
    saved = load_file(tmp_path / "merged" / "model.safetensors")
    for name, weights in load_file(llama_folder / "model.safetensors").items():
        assert torch.equal(saved[name], weights.to(getattr(torch, dtype))), name


def test_the_chat_template_and_the_end_tokens_travel_along(llama_folder, tmp_path):
    write_merged(llama_folder, tmp_path / "merged", dtype="float32")
    before, after = load_model(llama_folder), load_model(tmp_path / "merged")
    assert after.tokenizer.chat_template == before.tokenizer.chat_template
    assert after.model.generation_config.eos_token_id == before.model.generation_config.eos_token_id
