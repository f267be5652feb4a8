import pytest
import torch

from distill.models import LoraSettings, StudentModule, add_lora
from distill.models.adapters import without_adapters

IDS = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, 13, 2]])
ATTENTION = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]], dtype=torch.bool)
POSITIONS = torch.arange(5).repeat(2, 1)
COMPLETION = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 0, 0, 0]], dtype=torch.bool)


def test_student_gives_the_models_logits_at_completion_positions_in_order(any_family):
    expected = any_family(input_ids=IDS, attention_mask=ATTENTION.long(), position_ids=POSITIONS).logits
    logits = StudentModule(any_family)(IDS, ATTENTION, POSITIONS, COMPLETION)
    picked = torch.stack([expected[0, 2], expected[0, 3], expected[1, 1]])
    torch.testing.assert_close(logits, picked, atol=1e-4, rtol=0)


def test_student_has_the_models_parameters_and_no_others(family_model):
    model = family_model("llama")
    assert {id(p) for p in StudentModule(model).parameters()} == {id(p) for p in model.parameters()}


def test_gradients_reach_every_parameter(family_model):
    model = family_model("qwen2")
    StudentModule(model)(IDS, ATTENTION, POSITIONS, COMPLETION).logsumexp(-1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_only_adapters_learn_where_there_are_adapters(family_model):
    model = add_lora(family_model("llama"), LoraSettings(rank=2), seed=0)
    StudentModule(model)(IDS, ATTENTION, POSITIONS, COMPLETION).logsumexp(-1).sum().backward()
    learnt = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learnt
    assert all("lora_" in name for name in learnt)


def test_logits_are_float32_when_weights_are_stored_in_16_bits(family_model):
    model = family_model("llama").to(torch.bfloat16)
    assert StudentModule(model)(IDS, ATTENTION, POSITIONS, COMPLETION).dtype == torch.float32


@pytest.mark.parametrize("value", [1, 60])
def test_what_stands_under_padding_changes_nothing(family_model, value: int):
    student = StudentModule(family_model("llama"))
    ids = IDS.clone()
    ids[~ATTENTION] = value
    expected = student(IDS, ATTENTION, POSITIONS, COMPLETION)
    torch.testing.assert_close(student(ids, ATTENTION, POSITIONS, COMPLETION), expected)


def test_the_head_module_is_called_for_hooks_that_gather_weights(family_model):
    model = family_model("gpt2")
    rows = []
    without_adapters(model).lm_head.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    student = StudentModule(model)
    rows.clear()
    student(IDS, ATTENTION, POSITIONS, COMPLETION)
    assert rows == [3]
