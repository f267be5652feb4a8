"""New models with random weights: Llama- and Qwen2-shaped decoders of any size."""

from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import Field, model_validator

from distill.models.stopping import set_special_ids
from distill.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class ScratchSettings(Settings):
    """The shape of a model that starts from random weights."""

    architecture: Literal["llama", "qwen2"] = Field("llama", description="qwen2 adds biases to Q, K and V")
    hidden_size: int = Field(gt=0, description="width of the residual stream")
    num_layers: int = Field(gt=0, description="decoder layers")
    num_heads: int = Field(gt=0, description="query heads; divides hidden_size")
    num_key_value_heads: int | None = Field(None, gt=0, description="divides num_heads; null means num_heads")
    intermediate_size: int = Field(gt=0, description="channels of the gated MLP")
    max_length_tokens: int = Field(512, gt=0, description="longest sequence the model is made for")
    tie_embeddings: bool = Field(True, description="input embedding and output head share one matrix")
    rope_theta: float = Field(10000.0, gt=0, description="base of the rotary position frequencies")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size is {self.hidden_size}: it must be a multiple of num_heads {self.num_heads}")
        if (self.hidden_size // self.num_heads) % 2:
            raise ValueError(f"hidden_size / num_heads is {self.hidden_size // self.num_heads}: it must be even")
        if self.num_heads % (self.num_key_value_heads or self.num_heads):
            raise ValueError(f"num_key_value_heads is {self.num_key_value_heads}: it must divide {self.num_heads}")
        return self


def new_model(scratch: ScratchSettings, tokenizer: "PreTrainedTokenizerBase", *, seed: int) -> "PreTrainedModel":
    """A float32 model of the given shape for `tokenizer`; equal seeds give equal weights.

    The global random state is left as it was.
    """
    from transformers import AutoModelForCausalLM

    config = _config(scratch, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    set_special_ids(model, tokenizer)
    return model.eval()


def _config(scratch: ScratchSettings, tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedConfig":
    from transformers import LlamaConfig, Qwen2Config

    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[scratch.architecture]
    return kind(
        vocab_size=len(tokenizer),
        hidden_size=scratch.hidden_size,
        num_hidden_layers=scratch.num_layers,
        num_attention_heads=scratch.num_heads,
        num_key_value_heads=scratch.num_key_value_heads or scratch.num_heads,
        intermediate_size=scratch.intermediate_size,
        max_position_embeddings=scratch.max_length_tokens,
        tie_word_embeddings=scratch.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": scratch.rope_theta},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
