"""A tiny frozen body, and pairs in which the better answer says please."""

import pytest

from distill.data import CHAT_TEMPLATE, Message, PreferencePair
from distill.models import LoadedModel, ScratchSettings, new_model, train_tokenizer

SHAPE = ScratchSettings(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=24, max_length_tokens=96)


@pytest.fixture(scope="session")
def body() -> LoadedModel:
    tokenizer = train_tokenizer(["a flat white please", "not today"] * 4, vocab_size=280, chat_template=CHAT_TEMPLATE)
    return LoadedModel(new_model(SHAPE, tokenizer, seed=3), tokenizer, "tiny", "fp-body")


def pair(number: int, chosen: str, rejected: str) -> PreferencePair:
    return PreferencePair(f"pair-{number}", (Message("user", f"order {number}"),), chosen, rejected)


@pytest.fixture(scope="session")
def pairs() -> list[PreferencePair]:
    return [pair(number, f"{number} please", f"{number} not") for number in range(8)]


@pytest.fixture(scope="session")
def same_answers() -> list[PreferencePair]:
    return [pair(1, "please", "please")]
