import re
import unicodedata

import pytest

from distill.errors import ExportError
from distill.export.token_parity import (
    Corpus,
    corpus_of,
    require_nothing_around_chats,
    require_same_chats,
    require_same_corpus,
    token_ids_of,
)
from distill.models import load_tokenizer

COMPOSED, APART = "\u00e9", "e\u0301"


class Letters:
    """A runtime whose tokens are characters, but for those in `wrong`."""

    def __init__(self, *, around=(), wrong=""):
        self.around, self.wrong = list(around), wrong

    def tokenize_all(self, texts):
        return [[0 if letter in self.wrong else ord(letter) for letter in text] for text in texts]

    def ids_around_text(self):
        return self.around


def letters(*texts):
    """The corpus of a tokenizer whose tokens are characters, after NFC."""
    normalized = tuple(unicodedata.normalize("NFC", text) for text in texts)
    return Corpus(texts, normalized, [[ord(letter) for letter in text] for text in normalized])


def test_a_runtime_that_adds_nothing_passes():
    require_nothing_around_chats(Letters(), runtime="llama.cpp")


def test_a_second_bos_is_refused():
    with pytest.raises(ExportError, match=re.escape("llama.cpp puts tokens [1] around every text")):
        require_nothing_around_chats(Letters(around=[1]), runtime="llama.cpp")


def test_chats_that_are_cut_otherwise_are_counted():
    texts, ids = ["ab", "b", "c"], [[97, 98], [98], [99]]
    require_same_chats(Letters(), texts, ids, runtime="llama.cpp")
    with pytest.raises(ExportError, match="llama.cpp cuts 2 of 3 rendered chats into other tokens") as caught:
        require_same_chats(Letters(wrong="b"), texts, ids, runtime="llama.cpp")
    assert "'ab'" in caught.value.why


def test_texts_of_the_corpus_that_are_cut_alike_are_counted():
    assert require_same_corpus(Letters(), letters("a", "bc", ""), runtime="llama.cpp") == 3


def test_a_text_that_only_lacks_its_normalization_is_not_counted_and_not_refused():
    assert require_same_corpus(Letters(), letters("a", APART), runtime="llama.cpp") == 1


@pytest.mark.parametrize("wrong", ["b", COMPOSED])
def test_a_text_that_is_cut_otherwise_is_refused(wrong):
    with pytest.raises(ExportError, match="llama.cpp cuts 1 of 3 texts of the corpus into other tokens") as caught:
        require_same_corpus(Letters(wrong=wrong), letters("a", "bc", APART), runtime="llama.cpp")
    assert repr("bc" if wrong == "b" else APART) in caught.value.why


def test_the_corpus_holds_every_added_token_and_knows_what_the_tokenizer_normalizes(llama_folder, qwen2_folder):
    llama, qwen2 = (corpus_of(load_tokenizer(folder)) for folder in (llama_folder, qwen2_folder))
    assert "x<|endoftext|> <|endoftext|><|endoftext|>\ny" in llama.texts
    assert llama.normalized == llama.texts
    assert qwen2.normalized == tuple(unicodedata.normalize("NFC", text) for text in qwen2.texts)
    assert qwen2.normalized != qwen2.texts
    assert llama.token_ids == token_ids_of(load_tokenizer(llama_folder), llama.texts)
