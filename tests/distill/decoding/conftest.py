"""A tiny chat model whose answers differ from prompt to prompt and end at different lengths."""

import pytest
import torch

from distill.data import CHAT_TEMPLATE, Message
from distill.models import LoadedModel, ScratchSettings, new_model, save_model, train_tokenizer

TEXTS = ["What is a latte? It is coffee with milk for $4.50 at 12:30.", "How are you? I am fine, thank you."] * 5
PROMPTS = [
    [Message("user", "hi")],
    [Message("system", "Be brief."), Message("user", "What is a latte?")],
    [Message("user", "How are you?"), Message("assistant", "I am fine"), Message("user", "What is it at 12:30?")],
    [Message("user", "a much longer question with words that no merge knows, so that it has many tokens")],
    [Message("user", "milk")],
    [Message("user", "?")],
]


@pytest.fixture(scope="session")
def loaded() -> LoadedModel:
    """Weights ten times larger than at a real start, and an end token that is now and then the likeliest."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=310, chat_template=CHAT_TEMPLATE)
    shape = ScratchSettings(hidden_size=32, num_layers=2, num_heads=4, num_key_value_heads=2, intermediate_size=48)
    model = new_model(shape.model_copy(update={"tie_embeddings": False}), tokenizer, seed=7)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(0, 0.3, generator=generator)
        model.lm_head.weight[tokenizer.eos_token_id] *= 2
    return LoadedModel(model, tokenizer, "tiny", "scratch")


@pytest.fixture(scope="session")
def prompts() -> list[list[Message]]:
    return PROMPTS


@pytest.fixture(scope="session")
def folder(loaded, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiny") / "model"
    save_model(loaded.model, loaded.tokenizer, path)
    return path
