import copy

import tokenizers

from distill.models import load_tokenizer, same_vocabulary, save_tokenizer, train_tokenizer


def test_a_tokenizer_is_the_same_as_itself_reloaded(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    assert same_vocabulary(tokenizer, load_tokenizer(tmp_path)) is None


def test_other_sizes_are_told(tokenizer, texts):
    smaller = train_tokenizer(texts, vocab_size=300, chat_template=tokenizer.chat_template)
    assert same_vocabulary(tokenizer, smaller) == "320 tokens against 300"


def test_the_first_token_that_differs_is_told(tokenizer):
    other = train_tokenizer(
        ["quick zebras jump over lazy dogs while foxes watch them from behind some trees near rivers "] * 9,
        vocab_size=320,
        chat_template=tokenizer.chat_template,
    )
    reason = same_vocabulary(tokenizer, other)
    assert reason is not None
    assert reason.startswith("token ")


def test_the_same_tokens_cut_otherwise_are_told(tokenizer):
    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    assert same_vocabulary(tokenizer, other) == "the same tokens, but text is cut differently"
