import re

import numpy as np
import pytest

from distill.errors import ExportError
from distill.export.gguf_layout import gguf_name, layout_of, with_rows_for_llama_cpp

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 10,
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    "tie_word_embeddings": True,
}


def test_a_head_of_four_rows_is_interleaved():
    """Halves (0, 1) and (2, 3) are rotated together as (0, 2) and (1, 3); the second head follows by four."""
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    permuted = with_rows_for_llama_cpp(rows, "model.layers.0.self_attn.q_proj.weight", layout_of(CONFIG))
    assert permuted.ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_keys_are_interleaved_by_their_own_number_of_heads():
    rows = np.arange(4, dtype=np.float32)
    permuted = with_rows_for_llama_cpp(rows, "model.layers.0.self_attn.k_proj.bias", layout_of(CONFIG))
    assert permuted.tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("LlamaForCausalLM", "self_attn.v_proj"),
        ("LlamaForCausalLM", "mlp.up_proj"),
        ("Qwen2ForCausalLM", "self_attn.q_proj"),
    ],
)
def test_everything_else_keeps_its_rows(architecture, name):
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)
    layout = layout_of({**CONFIG, "architectures": [architecture]})
    np.testing.assert_array_equal(with_rows_for_llama_cpp(rows, f"model.layers.0.{name}.weight", layout), rows)


def test_names_known_answer():
    assert gguf_name("model.layers.12.mlp.down_proj.weight", layout_of(CONFIG)) == "blk.12.ffn_down.weight"
    assert gguf_name("model.layers.0.self_attn.q_proj.bias", layout_of(CONFIG)) == "blk.0.attn_q.bias"
    assert gguf_name("model.embed_tokens.weight", layout_of(CONFIG)) == "token_embd.weight"


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.q_norm.weight", "model.norm.bias", "score.weight", "model.embed_tokens.bias"]
)
def test_a_tensor_without_a_place_is_refused(name):
    with pytest.raises(ExportError, match=re.escape(f"tensor {name} has no place in GGUF")):
        gguf_name(name, layout_of(CONFIG))


def test_mistral_is_llama_inside_its_attention_window():
    layout = layout_of({**CONFIG, "architectures": ["MistralForCausalLM"], "sliding_window": 16})
    assert (layout.family.architecture, layout.max_length_tokens) == ("llama", 16)


def test_head_width_follows_the_configuration():
    assert layout_of(CONFIG).head_dim == 4
    assert layout_of({**CONFIG, "head_dim": 6}).head_dim == 6


def test_an_untied_model_needs_its_head():
    assert "lm_head.weight" not in layout_of(CONFIG).expected_names
    assert "lm_head.weight" in layout_of({**CONFIG, "tie_word_embeddings": False}).expected_names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "architectures is ['GPT2LMHeadModel']"),
        ({"architectures": None}, "architectures is None"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"use_sliding_window": True}, "use_sliding_window is true"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types has 'sliding_attention'"),
        ({"architectures": ["Gemma2ForCausalLM"]}, "not written to GGUF yet; LlamaForCausalLM, MistralForCausalLM"),
        (
            {
                "architectures": ["Qwen3ForCausalLM"],
                "rope_parameters": {
                    "rope_type": "llama3",
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 16,
                },
            },
            "qwen3 has no such one in llama.cpp",
        ),
        ({"hidden_size": 0}, "hidden_size is 0"),
    ],
)
def test_what_the_runtime_would_compute_otherwise_is_refused(change, message):
    with pytest.raises(ExportError, match=re.escape(message)):
        layout_of({**CONFIG, **change})


def test_norms_of_heads_belong_to_qwen3():
    layout = layout_of({**CONFIG, "architectures": ["Qwen3ForCausalLM"]})
    assert gguf_name("model.layers.3.self_attn.q_norm.weight", layout) == "blk.3.attn_q_norm.weight"
    assert "model.layers.0.self_attn.k_norm.weight" in layout.expected_names


def test_biases_are_needed_where_the_family_or_the_configuration_says_so():
    """Qwen2 has them on Q, K and V; Llama on what `attention_bias` and `mlp_bias` say, Qwen3 nowhere."""

    def biases(name, **changes):
        names = layout_of({**CONFIG, "architectures": [name], **changes}).expected_names
        return sorted(name.split(".")[-2] for name in names if name.endswith(".bias"))

    assert biases("Qwen2ForCausalLM") == ["k_proj", "q_proj", "v_proj"]
    assert biases("LlamaForCausalLM") == []
    assert biases("LlamaForCausalLM", attention_bias=True) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert biases("MistralForCausalLM", mlp_bias=True) == ["down_proj", "gate_proj", "up_proj"]
    with pytest.raises(ExportError, match=r"tensor model\.layers\.0\.self_attn\.q_proj\.bias has no place"):
        gguf_name("model.layers.0.self_attn.q_proj.bias", layout_of({**CONFIG, "architectures": ["Qwen3ForCausalLM"]}))
