"""A tiny byte-level tokenizer with the project's chat template, trained in milliseconds."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from distill.data.templates import CHAT_TEMPLATE, END_OF_TURN, PAD, SPECIAL_TOKENS

TEXTS = ("Hello, how are you doing today?", "I would like a small coffee, please.", "That makes 4.50 in all.")


@pytest.fixture
def make_tokenizer() -> Callable[[str | None], PreTrainedTokenizerFast]:
    """Builds the tokenizer around a chat template."""

    def make(template: str | None) -> PreTrainedTokenizerFast:
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        special = [*SPECIAL_TOKENS, "<s>"]
        trainer = trainers.BpeTrainer(
            vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        bpe.train_from_iterator(TEXTS * 20, trainer)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bpe,
            bos_token="<s>",
            eos_token=END_OF_TURN,
            pad_token=PAD,
            additional_special_tokens=list(SPECIAL_TOKENS[:3]),
        )
        tokenizer.chat_template = template
        return tokenizer

    return make


@pytest.fixture
def tokenizer(make_tokenizer: Callable[[str | None], PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """The tokenizer with the project's own template."""
    return make_tokenizer(CHAT_TEMPLATE)
