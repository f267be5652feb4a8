import torch
from torch import nn

from distill.models import LoraSettings, add_lora, new_model
from distill.models.lora_deltas import LoraDeltas, why_not_plain_lora


def test_a_delta_is_the_scaled_product_of_both_factors(sizes, tokenizer):
    """alpha / rank = 6 / 2 = 3."""
    adapted = add_lora(new_model(sizes, tokenizer, seed=0), LoraSettings(rank=2, alpha=6), seed=0)
    layer = adapted.get_base_model().get_submodule("model.layers.0.self_attn.q_proj")
    up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    nn.init.normal_(up)
    assert why_not_plain_lora(adapted) is None
    deltas = LoraDeltas(adapted)
    torch.testing.assert_close(deltas.delta("model.layers.0.self_attn.q_proj.weight"), 3 * up @ down)
    assert not deltas.changes("model.norm.weight")
    assert type(deltas.model.get_submodule("model.layers.0.self_attn.q_proj")) is nn.Linear
