import pytest
import torch
from safetensors.torch import load_file

from distill.export.bitsandbytes import write_bitsandbytes
from distill.models import is_quantized, load_model


@pytest.mark.parametrize("student", ["llama_folder", "qwen2_folder"])
@pytest.mark.parametrize(("quantization", "bits"), [("nf4", 4), ("int8", 8)])
def test_the_reloaded_model_is_the_quantized_one(request, tmp_path, student, quantization, bits):
    folder = request.getfixturevalue(student)
    delta = write_bitsandbytes(folder, tmp_path / "quantized", quantization=quantization)
    assert delta < 1e-3
    reloaded = load_model(tmp_path / "quantized").model
    assert is_quantized(reloaded)
    stored = load_file(tmp_path / "quantized" / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    assert stored.numel() * stored.element_size() == 96 * 64 * bits // 8


@pytest.mark.parametrize(("quantization", "max_kl"), [("nf4", 0.1), ("int8", 0.01)])
def test_the_quantized_model_is_near_the_merged(llama_folder, tmp_path, dialogues, quantization, max_kl):
    """On a random tiny model the formats' own errors are 0.06 and 0.0009 nats."""
    write_bitsandbytes(llama_folder, tmp_path / "quantized", quantization=quantization)
    loaded = load_model(llama_folder)
    text = loaded.tokenizer.apply_chat_template([m.to_json() for m in dialogues[0].messages], tokenize=False)
    input_ids = loaded.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        merged = loaded.model(input_ids).logits.log_softmax(-1)
        quantized = load_model(tmp_path / "quantized").model(input_ids).logits.float().log_softmax(-1)
    assert (merged.exp() * (merged - quantized)).sum(-1).mean() < max_kl
