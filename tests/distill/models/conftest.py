"""A tiny tokenizer and tiny random models of the families whose heads differ."""

from pathlib import Path

import pytest
import torch
import transformers

from distill.models import ScratchSettings, new_model, save_model, train_tokenizer
from tests.tiny_shape import TINY_SHAPE

TEXTS = [
    "What is a latte? It is coffee with milk for $4.50 at 12:30.",
    "How are you? I am fine, thank you. You can order 12 bagels at 9:15.",
    "naïve café, that's what it's called; we'll see.",
] * 4
SIZES = ScratchSettings(hidden_size=32, num_layers=2, num_heads=4, num_key_value_heads=2, intermediate_size=48)

_HEADS = {"head_dim": 8}
FAMILIES = {
    "llama": lambda: transformers.LlamaConfig(**TINY_SHAPE, tie_word_embeddings=False),
    "qwen2": lambda: transformers.Qwen2Config(**TINY_SHAPE),
    "qwen3": lambda: transformers.Qwen3Config(**TINY_SHAPE, **_HEADS),
    "gemma2": lambda: transformers.Gemma2Config(**TINY_SHAPE, **_HEADS, final_logit_softcapping=0.5),
    "phi": lambda: transformers.PhiConfig(**{**TINY_SHAPE, "num_key_value_heads": 4}),
    "cohere": lambda: transformers.CohereConfig(**TINY_SHAPE, logit_scale=0.25),
    "granite": lambda: transformers.GraniteConfig(**TINY_SHAPE, logits_scaling=8.0, embedding_multiplier=3.0),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=1
    ),
}


def random_model(family: str, *, seed: int = 0) -> transformers.PreTrainedModel:
    """Weights five times larger than at a real start, so that a scale or a soft-cap left out would show."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family](), dtype=torch.float32).eval()
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(params=sorted(FAMILIES))
def any_family(request) -> transformers.PreTrainedModel:
    return random_model(request.param)


@pytest.fixture
def family_model():
    return random_model


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return TEXTS


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(TEXTS, vocab_size=320, chat_template=_template())


@pytest.fixture
def sizes() -> ScratchSettings:
    return SIZES


@pytest.fixture
def model(tokenizer):
    return new_model(SIZES, tokenizer, seed=0)


@pytest.fixture
def saved(model, tokenizer, tmp_path) -> Path:
    save_model(model, tokenizer, tmp_path / "saved")
    return tmp_path / "saved"


def _template() -> str:
    from distill.data import CHAT_TEMPLATE

    return CHAT_TEMPLATE
