"""Tiny students that have learnt ten dialogues by heart, so that their greedy answers are clear and end."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from distill.data import (
    CHAT_TEMPLATE,
    END_OF_TURN,
    PAD,
    SPECIAL_TOKENS,
    Conversation,
    Message,
    conversation_row,
    pad_rows,
    tokenize_conversation,
)
from distill.models import ScratchSettings, new_model, save_model, train_tokenizer

NUM_STEPS = 80
_ORDERS = [
    ("Ana", "a flat white", "4.50"),
    ("Bo", "two espressos", "6.00"),
    ("Chloé", "an iced latte", "5.25"),
    ("Dev", "a mocha with oat milk", "5.80"),
    ("Eve", "green tea", "3.20"),
    ("Finn", "a cortado", "3.90"),
    ("Gus", "hot chocolate", "4.10"),
    ("Hana", "a cappuccino to go", "4.40"),
    ("Ian", "cold brew", "4.95"),
    ("Joy", "three bagels", "9.75"),
]


def _dialogue(number: int, name: str, drink: str, price: str) -> Conversation:
    messages = (
        Message("system", "You are a barista. Be brief."),
        Message("user", f"Hi, I'm {name}. I'd like {drink}."),
        Message("assistant", f"Sure {name}! One moment: {drink}."),
        Message("user", "What does it cost?"),
        Message("assistant", f"That's ${price}, {name}."),
    )
    return Conversation(f"order-{number}", messages)


@pytest.fixture(scope="session")
def dialogues() -> list[Conversation]:
    return [_dialogue(number, *order) for number, order in enumerate(_ORDERS)]


def _learn_by_heart(model, tokenizer, dialogues: Sequence[Conversation]) -> None:
    rows = [tokenize_conversation(tokenizer, d, max_length_tokens=256) for d in dialogues]
    batch = pad_rows([conversation_row(row) for row in rows], pad_id=tokenizer.pad_token_id)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.0)
    model.train()
    for step in range(NUM_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1.0, (step + 1) / 10) * (1 - step / NUM_STEPS)
        logits = model(batch.input_ids, attention_mask=batch.attention_mask).logits
        loss = cross_entropy(logits[batch.completion_mask], batch.target_ids[batch.completion_mask])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def _student(folder: Path, dialogues: Sequence[Conversation], *, architecture: str, tie_embeddings: bool) -> Path:
    tokenizer = train_tokenizer(
        [message.content for dialogue in dialogues for message in dialogue.messages],
        vocab_size=330,
        chat_template=CHAT_TEMPLATE,
        special_tokens=(*SPECIAL_TOKENS, "<|endoftext|>"),  # Qwen2's tokenizer class adds it when it is reloaded
        end_of_turn=END_OF_TURN,
        pad=PAD,
        architecture=architecture,
    )
    shape = ScratchSettings(
        architecture=architecture,
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        max_length_tokens=256,
        tie_embeddings=tie_embeddings,
    )
    model = new_model(shape, tokenizer, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    _learn_by_heart(model, tokenizer, dialogues)
    save_model(model, tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory, dialogues) -> Path:
    """Architecture llama, grouped heads, one matrix for embedding and head."""
    folder = tmp_path_factory.mktemp("students") / "llama"
    return _student(folder, dialogues, architecture="llama", tie_embeddings=True)


@pytest.fixture(scope="session")
def qwen2_folder(tmp_path_factory, dialogues) -> Path:
    """Architecture qwen2: biases on Q, K and V, and a head of its own."""
    folder = tmp_path_factory.mktemp("students") / "qwen2"
    return _student(folder, dialogues, architecture="qwen2", tie_embeddings=False)
