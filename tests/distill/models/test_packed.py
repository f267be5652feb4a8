import logging

import pytest
import torch
import transformers

from distill.data.prompt_packs import PromptGroup, pack_groups, runs_of
from distill.models import final_hidden_states
from distill.models.packed import mask_form, pack_form, packed_hidden_states, packed_states
from tests.tiny_shape import TINY_SHAPE

WINDOWED = {**TINY_SHAPE, "sliding_window": 5}
MORE_FAMILIES = {
    "mistral": lambda: transformers.MistralConfig(**WINDOWED),
    "gemma2 with a window": lambda: transformers.Gemma2Config(**WINDOWED, head_dim=8),
    "gemma3 with a window": lambda: transformers.Gemma3TextConfig(**WINDOWED, head_dim=8, sliding_window_pattern=2),
    "qwen2 with a window": lambda: transformers.Qwen2Config(**WINDOWED, use_sliding_window=True, max_window_layers=1),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=61,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=48,
        max_position_embeddings=64,
        word_embed_proj_dim=32,
        pad_token_id=2,
    ),
    "mixtral": lambda: transformers.MixtralConfig(**TINY_SHAPE, num_local_experts=4, sliding_window=None),
}
PROMPTS = [(5, 6, 7, 8, 9, 10, 11), (12, 13), (14, 15, 16)]
COMPLETIONS = [((20, 21, 22, 23, 24, 25), (30, 31, 32)), ((40, 41, 42, 43),), ((50,), (51, 52), (53, 54, 55))]
GROUPS = [PromptGroup(prompt, completions) for prompt, completions in zip(PROMPTS, COMPLETIONS, strict=True)]
LONGEST = 13


def wide_awake(config) -> transformers.PreTrainedModel:
    """Weights far from zero, so that a token seen or missed shows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@torch.no_grad()
def one_at_a_time(model) -> torch.Tensor:
    """States of each sequence read alone, at the positions that predict its completion."""
    states = []
    for group in GROUPS:
        for completion in group.completions:
            row = torch.tensor([[*group.prompt_ids, *completion[:-1]]])
            found = final_hidden_states(model, input_ids=row, attention_mask=torch.ones_like(row))
            states.append(found[0, len(group.prompt_ids) - 1 :])
    return torch.cat(states)


@pytest.fixture(params=sorted(MORE_FAMILIES))
def other_family(request) -> transformers.PreTrainedModel:
    return wide_awake(MORE_FAMILIES[request.param]())


def require_equal(model, *, pack_tokens: int | None) -> None:
    form = mask_form(model, longest=LONGEST)
    assert form is not None
    found = packed_hidden_states(model, pack_groups(GROUPS, pad_id=2, pack_tokens=pack_tokens), form=form)
    torch.testing.assert_close(found, one_at_a_time(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pack_tokens", [None, 40])
def test_packed_rows_say_what_each_sequence_says_alone(any_family, pack_tokens):
    require_equal(any_family, pack_tokens=pack_tokens)


@pytest.mark.parametrize("pack_tokens", [None, 40])
def test_windows_learned_positions_and_experts_too(other_family, pack_tokens):
    require_equal(other_family, pack_tokens=pack_tokens)


def test_one_row_read_run_by_run_says_the_same(any_family):
    require_equal_by_runs(any_family)


def test_one_row_read_run_by_run_with_windows_learned_positions_and_experts_too(other_family):
    require_equal_by_runs(other_family)


def require_equal_by_runs(model) -> None:
    expected = one_at_a_time(model)
    assert pack_form(model, longest=LONGEST) == "by_runs"
    batch = pack_groups(GROUPS, pad_id=2, pack_tokens=1000)
    assert len(batch.input_ids) == 1
    found = packed_states(model, batch, form="by_runs", runs=runs_of(batch))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["mistral", "gemma2 with a window", "opt"])
def test_attention_written_out_in_python_takes_the_same_rows(family):
    config = MORE_FAMILIES[family]()
    config._attn_implementation = "eager"
    require_equal(wide_awake(config), pack_tokens=None)


def test_rows_without_branches_need_no_mask_form(any_family):
    alone = [PromptGroup(group.prompt_ids, (completion,)) for group in GROUPS for completion in group.completions]
    found = packed_hidden_states(any_family, pack_groups(alone, pad_id=2), form=None)
    torch.testing.assert_close(found, one_at_a_time(any_family), atol=1e-5, rtol=1e-5)


def test_layers_of_different_kinds_get_a_mask_each(family_model):
    assert mask_form(family_model("gemma2"), longest=LONGEST) == "by_layer_type"
    assert mask_form(family_model("llama"), longest=LONGEST) == "one"


@pytest.mark.parametrize(
    "config",
    [
        transformers.BloomConfig(vocab_size=61, hidden_size=32, n_layer=2, n_head=4),
        transformers.MambaConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2, state_size=4),
    ],
    ids=["bloom", "mamba"],
)
def test_a_family_that_reads_order_off_the_row_is_found_out(config, caplog):
    """Bloom's slopes and Mamba's states follow the places in the row, so branches would be read wrongly."""
    model = wide_awake(config)
    attention = model.config._attn_implementation
    with caplog.at_level(logging.INFO):
        assert pack_form(model, longest=LONGEST) is None
    assert model.config._attn_implementation == attention
    assert "packed rows are padded" in caplog.text
    assert "reads each prompt once per completion" in caplog.text
