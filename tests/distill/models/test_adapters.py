import sys

import pytest
import torch

from distill.errors import ModelError, RecipeError
from distill.models import (
    LoraSettings,
    add_lora,
    has_adapters,
    let_adapters_learn,
    load_model,
    save_model,
    without_adapters,
)
from distill.settings import validated

IDS = torch.tensor([[5, 6, 7, 8]])


def test_fresh_adapters_change_nothing(family_model):
    model = family_model("llama")
    before = model(IDS).logits
    torch.testing.assert_close(add_lora(model, LoraSettings(rank=2), seed=0)(IDS).logits, before)


def test_only_adapters_learn(family_model):
    model = add_lora(family_model("llama"), LoraSettings(rank=2), seed=0)
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)


def test_the_output_head_gets_no_adapter(family_model):
    model = add_lora(family_model("llama"), LoraSettings(rank=2), seed=0)
    assert type(without_adapters(model).lm_head) is torch.nn.Linear


def test_rank_is_the_number_of_columns(family_model):
    model = add_lora(family_model("llama"), LoraSettings(rank=3, target_modules=("q_proj",)), seed=0)
    shapes = {tuple(p.shape) for name, p in model.named_parameters() if "lora_A" in name}
    assert shapes == {(3, 32)}


def test_adapters_come_back_from_disk_with_their_base(saved, tmp_path):
    loaded = load_model(saved)
    model = add_lora(loaded.model, LoraSettings(rank=2), seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    model.eval()
    save_model(model, loaded.tokenizer, tmp_path / "adapters")
    again = load_model(tmp_path / "adapters")
    torch.testing.assert_close(again.model(IDS).logits, model(IDS).logits)
    assert again.fingerprint != loaded.fingerprint
    assert has_adapters(again.model)
    assert not any(parameter.requires_grad for parameter in again.model.parameters())
    let_adapters_learn(again.model)
    learns = {name for name, parameter in again.model.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, parameter in again.model.named_parameters() if "lora_" in name}


def test_of_a_model_without_adapters_nothing_changes(family_model):
    model = family_model("llama").requires_grad_(False)
    let_adapters_learn(model)
    assert not has_adapters(model)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_equal_seeds_give_equal_adapters_whatever_was_drawn_before(family_model):
    def factors(seed: int) -> list[torch.Tensor]:
        torch.rand(3)
        model = add_lora(family_model("llama"), LoraSettings(rank=2), seed=seed)
        return [parameter for name, parameter in model.named_parameters() if "lora_A" in name]

    first, again, other = factors(1), factors(1), factors(2)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not any(torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_fresh_adapters_leave_the_global_random_state_alone(family_model):
    before = torch.get_rng_state()
    add_lora(family_model("llama"), LoraSettings(rank=2), seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_adapters_on_adapters_are_refused(family_model):
    model = add_lora(family_model("llama"), LoraSettings(rank=2), seed=0)
    with pytest.raises(ModelError, match="has LoRA adapters already"):
        add_lora(model, LoraSettings(rank=2), seed=0)


def test_modules_that_the_model_lacks_are_named(family_model):
    with pytest.raises(ModelError, match=r"lora.target_modules is \('nowhere',\)"):
        add_lora(family_model("llama"), LoraSettings(target_modules=("nowhere",)), seed=0)


def test_rank_zero_is_refused():
    with pytest.raises(RecipeError, match="rank is 0: must be positive"):
        validated(LoraSettings, {"rank": 0}, source="student.lora")


def test_a_model_without_adapters_needs_no_peft(family_model, monkeypatch):
    """Importing it takes seconds, which every worker of a cache would pay."""
    model = family_model("llama")
    monkeypatch.setitem(sys.modules, "peft", None)
    assert without_adapters(model) is model
