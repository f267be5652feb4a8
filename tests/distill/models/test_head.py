import pytest
import torch
import transformers

from distill.errors import ModelError
from distill.models import LoraSettings, add_lora, final_hidden_states, output_head
from distill.models.head import backbone, scale_and_soft_cap

IDS = torch.tensor([[5, 6, 7, 8, 9], [2, 2, 10, 11, 12]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]], dtype=torch.bool)
POSITIONS = torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]])


@torch.no_grad()
def test_head_of_final_hidden_states_is_the_models_own_logits(any_family):
    hidden_states = final_hidden_states(any_family, input_ids=IDS, attention_mask=MASK, position_ids=POSITIONS)
    expected = any_family(input_ids=IDS, attention_mask=MASK.long(), position_ids=POSITIONS).logits
    logits = output_head(any_family).logits(hidden_states)
    torch.testing.assert_close(logits[MASK], expected[MASK], atol=1e-4, rtol=0)


@torch.no_grad()
def test_adapters_change_final_hidden_states_as_they_change_logits(family_model):
    model = add_lora(family_model("llama"), LoraSettings(rank=2), seed=0)
    before = final_hidden_states(model, input_ids=IDS, attention_mask=MASK)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.fill_(0.3)
    after = final_hidden_states(model, input_ids=IDS, attention_mask=MASK)
    assert not torch.allclose(before[MASK], after[MASK])
    expected = model(input_ids=IDS, attention_mask=MASK.long()).logits
    torch.testing.assert_close(output_head(model).logits(after)[MASK], expected[MASK], atol=1e-4, rtol=0)


def test_head_shares_the_models_memory(family_model):
    model = family_model("phi")
    head = output_head(model)
    assert head.weight.data_ptr() == model.lm_head.weight.data_ptr()
    assert head.bias.data_ptr() == model.lm_head.bias.data_ptr()
    assert not head.weight.requires_grad


def test_scale_and_soft_cap_of_the_families_that_have_them(family_model):
    """Granite divides by 8, Cohere multiplies by 1/4, Gemma 2 caps at 1/2, Llama does nothing."""
    assert scale_and_soft_cap(family_model("granite")) == (0.125, None)
    assert scale_and_soft_cap(family_model("cohere")) == (0.25, None)
    assert scale_and_soft_cap(family_model("gemma2")) == (1.0, 0.5)
    assert scale_and_soft_cap(family_model("llama")) == (1.0, None)


def test_backbone_makes_no_logits(family_model):
    model = family_model("qwen2")
    assert backbone(model) is model.model


def test_training_mode_is_left_as_it_was(family_model):
    model = family_model("llama").train()
    output_head(model)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_family_that_makes_logits_in_another_way_is_refused(family_model):
    class Doubled(transformers.LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 2
            return output

    with pytest.raises(ModelError, match="logits of llama differ by"):
        output_head(Doubled(family_model("llama").config))


def test_a_head_that_is_no_plain_linear_map_is_refused(family_model):
    model = family_model("llama")
    model.lm_head = torch.nn.Identity()
    with pytest.raises(ModelError, match="the output head of llama is a Identity"):
        output_head(model)
