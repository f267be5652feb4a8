"""Tiny students that have learnt ten dialogues by heart, so that their greedy answers are clear and end."""

import os
from collections.abc import Callable, Sequence
from functools import partial
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
from distill.export import ExportSettings, export_model
from distill.files import locked, replacing_folder
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


def _made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first of the parallel workers makes and all of them read; no test may change it."""
    session = tmp_path_factory.getbasetemp()
    folder = (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "shared" / name
    with locked(folder.parent / f"{name}.lock", wait_s=600):
        if not folder.exists():
            with replacing_folder(folder) as unfinished:
                make(unfinished)
    return folder


def _student(folder: Path, dialogues: Sequence[Conversation], *, architecture: str, tie_embeddings: bool) -> None:
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


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory, dialogues) -> Path:
    """Architecture llama, grouped heads, one matrix for embedding and head."""
    make = partial(_student, dialogues=dialogues, architecture="llama", tie_embeddings=True)
    return _made_once(tmp_path_factory, "llama", make)


@pytest.fixture(scope="session")
def qwen2_folder(tmp_path_factory, dialogues) -> Path:
    """Architecture qwen2: biases on Q, K and V, and a head of its own."""
    make = partial(_student, dialogues=dialogues, architecture="qwen2", tie_embeddings=False)
    return _made_once(tmp_path_factory, "qwen2", make)


@pytest.fixture(scope="session")
def export_gguf(llama_folder, dialogues) -> Callable[[Path], Path]:
    """Exports the llama student as gguf-q8_0 into a folder, each time from the same inputs."""

    def export(folder: Path) -> Path:
        names = ("gguf-q8_0",)
        settings = ExportSettings(
            formats=names, max_new_tokens=24, num_smoke_prompts=3, max_kl=1.0, measures_speed=False
        )
        export_model(llama_folder, formats=names, output_dir=folder, prompts=dialogues[:3], settings=settings)
        return folder

    return export


@pytest.fixture(scope="session")
def gguf_export(export_gguf, tmp_path_factory) -> Path:
    """One such export; copy it before you change it."""
    return export_gguf(tmp_path_factory.mktemp("gguf-export"))
