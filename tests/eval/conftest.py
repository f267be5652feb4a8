"""Tiny real models of one vocabulary, and a generator that answers from a table."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from distill.data import CHAT_TEMPLATE, END_OF_TURN, PAD, SPECIAL_TOKENS, Conversation, Message
from distill.decoding import Generation, SamplingSettings
from distill.models import LoadedModel, ScratchSettings, new_model, train_tokenizer

SHAPE = ScratchSettings(hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24, max_length_tokens=128)
WEIGHT_SCALE = 10.0  # so that distributions of different seeds are far apart


@pytest.fixture(scope="session")
def public_mt_bench() -> Path:
    """The folder of MT-Bench's public files, which are not ours to ship."""
    folder = Path(os.environ.get("DISTILL_TEST_DATA", "absent")) / "mt_bench"
    if not folder.is_dir():
        pytest.skip("DISTILL_TEST_DATA names no folder with mt_bench")
    return folder


@pytest.fixture(scope="session")
def make_model() -> Callable[[int], LoadedModel]:
    """Models of random weights by seed; all share one tokenizer."""
    tokenizer = train_tokenizer(
        ["a flat white please", "that is three dollars"] * 4,
        vocab_size=280,
        chat_template=CHAT_TEMPLATE,
        special_tokens=SPECIAL_TOKENS,
        end_of_turn=END_OF_TURN,
        pad=PAD,
    )

    def make(seed: int) -> LoadedModel:
        model = new_model(SHAPE, tokenizer, seed=seed)
        with torch.no_grad():
            for matrix in (parameter for parameter in model.parameters() if parameter.ndim > 1):
                matrix.mul_(WEIGHT_SCALE)
        return LoadedModel(model, tokenizer, f"seed {seed}", f"fp-{seed}")

    first = make(0)
    first.model(torch.tensor([[1, 2]]))
    return make


@pytest.fixture
def dialogues() -> list[Conversation]:
    """Answered dialogues of different lengths."""
    texts = [("hello", "good morning"), ("a flat white", "that is three dollars and twenty cents"), ("bye", "bye")]
    return [
        Conversation(f"row-{number}", (Message("user", asked), Message("assistant", answered)))
        for number, (asked, answered) in enumerate(texts)
    ]


class TableGenerator:
    """Answers the last user message from a table; keeps what it was asked."""

    def __init__(self, answers: Mapping[str, str], *, finish_reason: str = "stop") -> None:
        self.answers, self.finish_reason = answers, finish_reason
        self.asked: list[tuple[Message, ...]] = []
        self.temperatures: list[float] = []

    def generate(
        self, prompts: Sequence[Sequence[Message]], settings: SamplingSettings, *, seed: int
    ) -> list[Generation]:
        self.asked += [tuple(prompt) for prompt in prompts]
        self.temperatures += [settings.temperature] * len(prompts)
        texts = [self.answers.get(prompt[-1].content, "?") for prompt in prompts]
        return [Generation(text, len(text.split()) + 1, self.finish_reason) for text in texts]


@pytest.fixture
def table_generator() -> type[TableGenerator]:
    return TableGenerator
