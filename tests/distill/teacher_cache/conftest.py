"""A tiny teacher and sequences to score."""

import random
from collections.abc import Callable

import pytest

from distill.data import CHAT_TEMPLATE, TokenizedSequence
from distill.models import LoadedModel, ScratchSettings, new_model, train_tokenizer
from distill.teacher_cache import CacheSettings

TEXTS = ["a small latte please", "one tea with oat milk", "that makes 4.50, thank you"] * 3


def sequence(prompt: list[int], completion: list[int]) -> TokenizedSequence:
    """A sequence from plain lists."""
    return TokenizedSequence(tuple(prompt), tuple(completion))


@pytest.fixture(scope="session")
def teacher() -> LoadedModel:
    """A random Llama of 2 layers, hidden 32, vocabulary 280; float32, on the CPU."""
    tokenizer = train_tokenizer(TEXTS, vocab_size=280, chat_template=CHAT_TEMPLATE)
    scratch = ScratchSettings(hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64, max_length_tokens=64)
    model = new_model(scratch, tokenizer, seed=0)
    return LoadedModel(model, tokenizer, "tiny", "tiny-fingerprint")


@pytest.fixture(scope="session")
def sequences() -> list[TokenizedSequence]:
    """Twelve distinct sequences of several lengths."""
    draw = random.Random(0)

    def ids(lowest: int, highest: int) -> list[int]:
        return [draw.randrange(5, 270) for _ in range(draw.randint(lowest, highest))]

    return [sequence(ids(1, 9), ids(1, 7)) for _ in range(12)]


@pytest.fixture
def small_shards() -> Callable[..., CacheSettings]:
    """Settings that cut twelve sequences into several shards and each shard into several batches."""

    def settings(**changes: object) -> CacheSettings:
        return CacheSettings.model_validate(
            {"shard_tokens": 12, "max_batch_tokens": 24, "max_length_tokens": 32} | changes
        )

    return settings
