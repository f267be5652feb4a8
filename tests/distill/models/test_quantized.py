import pytest
import torch

from distill.errors import ModelError
from distill.models import (
    LoraSettings,
    add_lora,
    count_parameters,
    is_quantized,
    load_model,
    quantization_of,
    save_model,
)
from distill.models.quantized import RECORD_NAME

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.mark.parametrize(("quantization", "kind"), [("nf4", "Linear4bit"), ("int8", "Linear8bitLt")])
def test_linear_layers_but_the_head_are_quantized(saved, quantization: str, kind: str):
    model = load_model(saved, quantization=quantization).model
    assert is_quantized(model)
    assert type(model.model.layers[0].mlp.up_proj).__name__ == kind
    assert type(model.lm_head) is torch.nn.Linear
    assert count_parameters(model) == count_parameters(load_model(saved).model)


def test_an_unquantized_model_says_so(saved):
    assert not is_quantized(load_model(saved).model)


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_quantized_weights_saved_after_a_forward_come_back_the_same(saved, tmp_path, quantization: str):
    loaded = load_model(saved, quantization=quantization)
    with torch.no_grad():
        before = loaded.model(IDS).logits
        save_model(loaded.model, loaded.tokenizer, tmp_path / "quantized")
        again = load_model(tmp_path / "quantized")
        assert is_quantized(again.model)
        torch.testing.assert_close(again.model(IDS).logits, before, atol=1e-4, rtol=0)


def test_four_bit_weights_are_never_repacked(saved):
    model = load_model(saved, quantization="nf4").model
    flags = [module.support_avx512bf16_for_cpu for module in model.modules() if hasattr(module, "quant_state")]
    assert flags
    assert not any(flags)


def test_eight_bit_products_warn_of_nothing(saved, caplog):
    load_model(saved, quantization="int8").model(IDS)
    assert not caplog.records


@pytest.fixture
def adapters(saved, tmp_path):
    """Trained on 4 bits made from bfloat16, and saved."""
    loaded = load_model(saved, quantization="nf4", dtype="bfloat16")
    model = add_lora(loaded.model, LoraSettings(rank=2), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    save_model(model, loaded.tokenizer, tmp_path / "adapters")
    return tmp_path / "adapters"


@torch.no_grad()
def test_adapters_come_back_onto_the_packed_weights_they_were_trained_on(adapters):
    model = load_model(adapters).model
    assert quantization_of(model) == "nf4"
    assert {p.dtype for p in model.parameters() if p.is_floating_point()} == {torch.float32}
    plain = load_model(adapters, dequantizes=True).model
    assert quantization_of(plain) is None
    torch.testing.assert_close(plain(IDS).logits, model(IDS).logits, rtol=1e-5, atol=1e-5)
    (adapters / RECORD_NAME).unlink()
    assert (load_model(adapters).model(IDS).logits - plain(IDS).logits).abs().max() > 1e-3


def test_adapters_are_not_loaded_onto_another_format(adapters):
    with pytest.raises(ModelError, match=r"quantization is int8, and .* trained on nf4(.|\n)*fix: quantization=nf4"):
        load_model(adapters, quantization="int8")


@pytest.mark.parametrize("text", ["{", '{"quantization": "nf3", "dtype": "float32"}'])
def test_a_damaged_record_is_refused(adapters, text):
    (adapters / RECORD_NAME).write_text(text)
    with pytest.raises(ModelError, match=f"{RECORD_NAME} cannot be read(.|\n)*copy the folder"):
        load_model(adapters)
