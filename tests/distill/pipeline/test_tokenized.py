import logging

import pytest

from distill.data import CHAT_TEMPLATE, Conversation, Message, PreferencePair
from distill.errors import DataError
from distill.models import train_tokenizer
from distill.pipeline.tokenized import tokenized_conversations, tokenized_pairs

SHORT = Conversation("short", (Message("user", "Hi"), Message("assistant", "Yes")))
LONG = Conversation("long", (Message("user", "Hi " * 200), Message("assistant", "Yes")))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["Hi there, yes"] * 4, vocab_size=280, chat_template=CHAT_TEMPLATE)


def test_what_is_cut_to_nothing_is_refused_and_counted(tokenizer, caplog):
    caplog.set_level(logging.WARNING)
    assert len(tokenized_conversations(tokenizer, [SHORT, LONG], max_length_tokens=64)) == 1
    assert "refused 1 of 2 conversations: no completion is left within max_length_tokens=64" in caplog.text


def test_nothing_left_at_all_is_an_error(tokenizer):
    with pytest.raises(DataError, match="none of 1 conversations can be trained on\nwhy: .*\nfix: raise"):
        tokenized_conversations(tokenizer, [LONG], max_length_tokens=64)


def test_nothing_given_is_nothing(tokenizer):
    assert tokenized_conversations(tokenizer, [], max_length_tokens=64) == []


def test_pairs_keep_one_prompt_for_both_completions(tokenizer):
    pair = PreferencePair("p", (Message("user", "Hi"),), "Yes", "No")
    (tokens,) = tokenized_pairs(tokenizer, [pair], max_length_tokens=64)
    assert tokens.chosen.prompt_ids == tokens.rejected.prompt_ids
