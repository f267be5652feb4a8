"""How a checkpoint of each known family is laid out in GGUF: names, row order of Q and K, settings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distill.errors import ExportError
from distill.export.gguf_rope import Rope, rope_of


@dataclass(frozen=True)
class Family:
    """What llama.cpp calls an architecture, and what is its own there.

    Args:
        interleaves_heads: Q and K are rotated in neighbouring rows, not in halves of a head.
        has_head_norms: each head of Q and K has a norm.
        needed_biases: parts that llama.cpp does not load without a bias.
        optional_biases: parts whose bias llama.cpp adds if there is one.
    """

    architecture: str
    interleaves_heads: bool = False
    has_head_norms: bool = False
    needed_biases: tuple[str, ...] = ()
    optional_biases: tuple[str, ...] = ()


_QKV = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_LLAMA = Family("llama", interleaves_heads=True, optional_biases=(*_QKV, "self_attn.o_proj", *_MLP))

# By transformers' class. Mistral is Llama in llama.cpp; Qwen2.5 is Qwen2 in both.
FAMILIES = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Qwen2ForCausalLM": Family("qwen2", needed_biases=_QKV),
    "Qwen3ForCausalLM": Family("qwen3", has_head_norms=True),
}

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
_HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_BLOCK_NAME = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True)
class Layout:
    """What config.json says about the model's shape, checked to be something both runtimes compute alike."""

    family: Family
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_length_tokens: int
    norm_epsilon: float
    rope: Rope
    has_tied_head: bool
    biased_parts: tuple[str, ...]

    @property
    def block_parts(self) -> dict[str, str]:
        """What each layer consists of, and its names in GGUF."""
        return _BLOCK | (_HEAD_NORMS if self.family.has_head_norms else {})

    @property
    def expected_names(self) -> set[str]:
        """The checkpoint's tensors that llama.cpp cannot do without."""
        layers = range(self.num_layers)
        names = {f"model.layers.{layer}.{part}.weight" for layer in layers for part in self.block_parts}
        names |= {f"model.layers.{layer}.{part}.bias" for layer in layers for part in self.biased_parts}
        return names | set(_OUTER) - ({"lm_head.weight"} if self.has_tied_head else set())


def layout_of(config: Mapping[str, object]) -> Layout:
    """Reads a `Layout` from the contents of config.json.

    Raises:
        ExportError: the architecture, activation, rotary scaling or attention window has no GGUF counterpart here.
    """
    family = _family(config)
    heads, hidden = _whole(config, "num_attention_heads"), _whole(config, "hidden_size")
    rope = rope_of(config)
    if rope.kind == "llama3" and family.architecture != "llama":
        raise ExportError(
            "config.json: rope_type is 'llama3'", why=f"{family.architecture} has no such one in llama.cpp"
        )
    if config.get("hidden_act", "silu") != "silu":
        raise ExportError(f"config.json: hidden_act is {config['hidden_act']!r}", why="llama.cpp computes silu")
    if config.get("use_sliding_window"):
        raise ExportError("config.json: use_sliding_window is true", why="llama.cpp would attend to everything")
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and set(kinds) != {"full_attention"}:
        raise ExportError(
            f"config.json: layer_types has {min(set(kinds) - {'full_attention'})!r}",
            why="llama.cpp would attend to everything",
        )
    length = _whole(config, "max_position_embeddings")
    if family.architecture == "llama" and config.get("sliding_window"):
        length = min(length, _whole(config, "sliding_window"))
    return Layout(
        family=family,
        num_layers=_whole(config, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=_whole(config, "intermediate_size"),
        num_heads=heads,
        num_key_value_heads=_whole(config, "num_key_value_heads") if config.get("num_key_value_heads") else heads,
        head_dim=_whole(config, "head_dim") if config.get("head_dim") else hidden // heads,
        vocab_size=_whole(config, "vocab_size"),
        max_length_tokens=length,
        norm_epsilon=float(str(config.get("rms_norm_eps", 1e-6))),
        rope=rope,
        has_tied_head=bool(config.get("tie_word_embeddings", False)),
        biased_parts=family.needed_biases or _biased_parts(config, family),
    )


def gguf_name(name: str, layout: Layout) -> str:
    """The GGUF name of a checkpoint's tensor in the model's family.

    Raises:
        ExportError: there is none.
    """
    if name in _OUTER:
        return _OUTER[name]
    found = _BLOCK_NAME.fullmatch(name)
    part, kind = (found[2], found[3]) if found else ("", "")
    biases = (*layout.family.needed_biases, *layout.family.optional_biases)
    if found is None or part not in (layout.block_parts if kind == "weight" else biases):
        raise ExportError(f"tensor {name} has no place in GGUF", why="a model without it would talk nonsense")
    return f"blk.{found[1]}.{layout.block_parts[part]}.{kind}"


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
    if not layout.family.interleaves_heads:
        return None
    if ".self_attn.q_proj." in name:
        return layout.num_heads
    return layout.num_key_value_heads if ".self_attn.k_proj." in name else None


def _family(config: Mapping[str, object]) -> Family:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if name not in FAMILIES:
        raise ExportError(
            f"config.json: architectures is {names!r}",
            why=f"not written to GGUF yet; {', '.join(FAMILIES)} are",
            fix="leave the gguf formats out",
        )
    return FAMILIES[str(name)]


def _biased_parts(config: Mapping[str, object], family: Family) -> tuple[str, ...]:
    """The parts that config.json says have a bias, among those that may have one."""
    attention = tuple(part for part in family.optional_biases if part.startswith("self_attn."))
    mlp = tuple(part for part in family.optional_biases if part.startswith("mlp."))
    return (attention if config.get("attention_bias") else ()) + (mlp if config.get("mlp_bias") else ())


def _whole(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise ExportError(f"config.json: {key} is {value!r}", why="a positive whole number was expected")
    return value
