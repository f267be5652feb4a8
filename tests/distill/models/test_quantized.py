import pytest
import torch

from distill.models import count_parameters, is_quantized, load_model, save_model

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
