import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from distill.errors import ModelError
from distill.models import LoraSettings, PruneSettings, add_lora, count_parameters, load_model, prune, save_model
from distill.models.prune import _importance, _layers, _Sizes

TEXTS = [[5, 6, 7, 8, 9, 10, 11], [12, 5, 13, 6], [20, 21, 22, 23, 24]]
SHAPE = {
    "vocab_size": 40,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 160,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "head_dim": 6,
}


def shaped(kind, config, **changes):
    torch.manual_seed(0)
    return kind(config(**{**SHAPE, **changes})).eval()


def in_layers(model) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if "proj" in name)


@pytest.fixture(params=["llama", "qwen2"])
def teacher(request):
    kinds = {"llama": (LlamaForCausalLM, LlamaConfig), "qwen2": (Qwen2ForCausalLM, Qwen2Config)}
    return shaped(*kinds[request.param])


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5])
def test_the_share_asked_for_is_removed(teacher, ratio: float):
    pruned = prune(teacher, PruneSettings(ratio=ratio), calibration=TEXTS)
    assert 1 - in_layers(pruned) / in_layers(teacher) == pytest.approx(ratio, abs=0.01)


@torch.no_grad()
def test_pruning_equals_zeroing_the_removed_groups_in_the_teacher(teacher):
    """What reads a removed group gets zeros in the teacher; its logits must then be the pruned model's."""
    settings = PruneSettings(ratio=0.5)
    pruned = prune(teacher, settings, calibration=TEXTS)
    ids = torch.tensor([[5, 9, 30, 31, 2]])
    before = teacher(ids).logits
    for ours, theirs in zip(pruned.model.layers, teacher.model.layers, strict=True):
        for name, kept in (("o_proj", ours.self_attn.o_proj), ("down_proj", ours.mlp.down_proj)):
            full = theirs.self_attn.o_proj if name == "o_proj" else theirs.mlp.down_proj
            is_kept = (full.weight.T.unsqueeze(1) == kept.weight.T.unsqueeze(0)).all(-1).any(-1)
            assert int(is_kept.sum()) == kept.weight.shape[1]
            full.weight[:, ~is_kept] = 0
    torch.testing.assert_close(pruned(ids).logits, teacher(ids).logits, atol=1e-5, rtol=0)
    assert not torch.allclose(pruned(ids).logits, before, atol=1e-3)


def test_importance_is_the_first_order_change_of_the_loss(teacher):
    """Zeroing a channel by a factor (1 - e) changes the loss by e times its importance, to first order."""
    layers, sizes = _layers(teacher), _Sizes.of(teacher.config)
    groups, channels = _importance(teacher, layers, sizes, TEXTS[:1])
    ids = torch.tensor(TEXTS[:1])
    step = 1e-2

    def loss_when_scaled(weight, columns) -> float:
        with torch.no_grad():
            original = weight[:, columns].clone()
            losses = []
            for factor in (1 + step, 1 - step):
                weight[:, columns] = original * factor
                losses.append(teacher(ids, labels=ids).loss.double().item())
            weight[:, columns] = original
        return abs(losses[0] - losses[1]) / (2 * step)

    strongest = int(channels[0].argmax())
    change = loss_when_scaled(layers[0].down.weight, [strongest])
    assert change == pytest.approx(channels[0, strongest].item(), rel=0.05)
    change = loss_when_scaled(layers[1].o.weight, slice(12, 24))
    assert change == pytest.approx(groups[1, 1].item(), rel=0.05)


def test_pruning_is_deterministic_and_leaves_the_teacher_alone(teacher):
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    first = prune(teacher, PruneSettings(ratio=0.3), calibration=TEXTS)
    second = prune(teacher, PruneSettings(ratio=0.3), calibration=TEXTS)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name])
    for name, weight in teacher.state_dict().items():
        assert torch.equal(weight, before[name])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())


def test_a_pruned_model_survives_saving_and_loading(model, tokenizer, tmp_path):
    pruned = prune(model, PruneSettings(ratio=0.2), calibration=TEXTS)
    save_model(pruned, tokenizer, tmp_path / "pruned")
    loaded = load_model(tmp_path / "pruned").model
    ids = torch.tensor(TEXTS[:1])
    torch.testing.assert_close(loaded(ids).logits, pruned(ids).logits)
    assert count_parameters(loaded) == count_parameters(pruned) < count_parameters(model)


def test_head_counts_that_the_configuration_refuses_are_avoided():
    """Of 4 groups of 3 heads in 48 columns 3 groups would be kept at ratio 0.3; 9 heads do not divide 48, 12 do."""
    teacher = shaped(LlamaForCausalLM, LlamaConfig, num_attention_heads=12, head_dim=4)
    pruned = prune(teacher, PruneSettings(ratio=0.3), calibration=TEXTS)
    assert pruned.config.num_key_value_heads == 4
    assert 1 - in_layers(pruned) / in_layers(teacher) == pytest.approx(0.3, abs=0.01)


def test_a_ratio_that_leaves_no_channel_is_refused():
    teacher = shaped(LlamaForCausalLM, LlamaConfig, num_key_value_heads=1, intermediate_size=16)
    with pytest.raises(ModelError, match=r"student\.prune\.ratio is 0\.9"):
        prune(teacher, PruneSettings(ratio=0.9), calibration=TEXTS)


def test_without_calibration_nothing_is_pruned(teacher):
    with pytest.raises(ModelError, match="no calibration text"):
        prune(teacher, PruneSettings(ratio=0.2), calibration=[])


def test_unknown_layers_are_refused(family_model):
    with pytest.raises(ModelError, match="type gpt2 cannot be pruned"):
        prune(family_model("gpt2"), PruneSettings(ratio=0.2), calibration=TEXTS)


def test_adapters_have_to_be_merged_first(teacher):
    with pytest.raises(ModelError, match="adapters or quantized"):
        prune(add_lora(teacher, LoraSettings(rank=2), seed=0), PruneSettings(ratio=0.2), calibration=TEXTS)
