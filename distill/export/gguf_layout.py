"""How a Llama or Qwen2 checkpoint is laid out in GGUF: names, row order of Q and K, settings from config.json."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.errors import ExportError

# transformers' class -> llama.cpp's architecture. Mistral is Llama there.
ARCHITECTURES = {"LlamaForCausalLM": "llama", "MistralForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2"}

_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_BLOCK_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True)
class Layout:
    """What config.json says about the model's shape, checked to be something both runtimes compute alike."""

    architecture: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_length_tokens: int
    norm_epsilon: float
    rope_theta: float
    rope_factor: float
    has_tied_head: bool

    @property
    def expected_names(self) -> set[str]:
        """The checkpoint's tensors that llama.cpp cannot do without."""
        layers = range(self.num_layers)
        names = {f"model.layers.{layer}.{part}.weight" for layer in layers for part in _BLOCK}
        if self.architecture == "qwen2":
            names |= {f"model.layers.{layer}.self_attn.{part}_proj.bias" for layer in layers for part in "qkv"}
        return names | set(_OUTER) - ({"lm_head.weight"} if self.has_tied_head else set())


def layout_of(config: Mapping[str, object]) -> Layout:
    """Reads a `Layout` from the contents of config.json.

    Raises:
        ExportError: the architecture, activation, rotary scaling or attention window has no GGUF counterpart here.
    """
    architecture = _architecture(config)
    heads, hidden = _whole(config, "num_attention_heads"), _whole(config, "hidden_size")
    theta, factor = _rope(config)
    if config.get("hidden_act", "silu") != "silu":
        raise ExportError(f"config.json: hidden_act is {config['hidden_act']!r}", why="llama.cpp computes silu")
    if config.get("use_sliding_window"):
        raise ExportError("config.json: use_sliding_window is true", why="llama.cpp would attend to everything")
    length = _whole(config, "max_position_embeddings")
    if architecture == "llama" and config.get("sliding_window"):
        length = min(length, _whole(config, "sliding_window"))
    return Layout(
        architecture=architecture,
        num_layers=_whole(config, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=_whole(config, "intermediate_size"),
        num_heads=heads,
        num_key_value_heads=_whole(config, "num_key_value_heads") if config.get("num_key_value_heads") else heads,
        head_dim=_whole(config, "head_dim") if config.get("head_dim") else hidden // heads,
        vocab_size=_whole(config, "vocab_size"),
        max_length_tokens=length,
        norm_epsilon=float(str(config.get("rms_norm_eps", 1e-6))),
        rope_theta=theta,
        rope_factor=factor,
        has_tied_head=bool(config.get("tie_word_embeddings", False)),
    )


def gguf_name(name: str) -> str:
    """The GGUF name of a checkpoint's tensor.

    Raises:
        ExportError: there is none.
    """
    if name in _OUTER:
        return _OUTER[name]
    found = _BLOCK_NAME.fullmatch(name)
    if found is None or found[2] not in _BLOCK:
        raise ExportError(f"tensor {name} has no place in GGUF", why="a model without it would talk nonsense")
    return f"blk.{found[1]}.{_BLOCK[found[2]]}.{found[3]}"


def with_rows_for_llama_cpp(values: NDArray[np.float32], name: str, layout: Layout) -> NDArray[np.float32]:
    """Q and K of architecture llama with each head's rows interleaved; everything else as it is.

    transformers rotates row i with row i + d/2 of a head, llama.cpp's `llama` rotates row 2i with row 2i + 1.
    """
    heads = _num_rotated_heads(name, layout)
    if heads is None:
        return values
    halves = values.reshape(heads, 2, layout.head_dim // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _num_rotated_heads(name: str, layout: Layout) -> int | None:
    if layout.architecture != "llama":
        return None
    if ".self_attn.q_proj." in name:
        return layout.num_heads
    return layout.num_key_value_heads if ".self_attn.k_proj." in name else None


def _architecture(config: Mapping[str, object]) -> str:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if name not in ARCHITECTURES:
        raise ExportError(
            f"config.json: architectures is {names!r}",
            why=f"GGUF is written for {', '.join(ARCHITECTURES)}",
            fix="leave the gguf formats out",
        )
    return ARCHITECTURES[str(name)]


def _rope(config: Mapping[str, object]) -> tuple[float, float]:
    """Rotary base and linear scaling factor; older files keep them as rope_theta and rope_scaling."""
    rope: dict[str, object] = {}
    for key in ("rope_scaling", "rope_parameters"):
        value = config.get(key)
        rope |= value if isinstance(value, dict) else {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear"):
        raise ExportError(f"config.json: rope_type is {kind!r}", why="only default and linear ones are written")
    theta = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    return float(str(theta)), float(str(rope.get("factor", 1.0))) if kind == "linear" else 1.0


def _whole(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ExportError(f"config.json: {key} is {value!r}", why="a positive whole number was expected")
    return value
