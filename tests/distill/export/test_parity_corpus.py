import unicodedata

import pytest

from distill.export.parity_corpus import parity_corpus


def test_there_are_more_than_300_different_texts_and_always_the_same():
    texts = parity_corpus()
    assert len(set(texts)) == len(texts) > 300
    assert texts == parity_corpus()


def test_each_added_token_stands_in_a_text_of_its_own():
    texts = parity_corpus(("<|a|>", "<note>"))
    assert texts[:-2] == parity_corpus()
    assert texts[-2:] == ("x<|a|> <|a|><|a|>\ny", "x<note> <note><note>\ny")


@pytest.mark.parametrize(
    "shows",
    [
        lambda text: "'ll" in text,
        lambda text: "'LL" in text,
        lambda text: "\r\n" in text,
        lambda text: "\t" in text,
        lambda text: "    " in text,
        lambda text: "\u200d" in text,
        lambda text: sum(c.isdigit() for c in text) > 20,
        lambda text: any(unicodedata.combining(c) for c in text),
        lambda text: unicodedata.normalize("NFC", text) != text,
        lambda text: any(unicodedata.bidirectional(c) in ("R", "AL") for c in text),
        lambda text: any(unicodedata.category(c) == "Co" for c in text),
        lambda text: "https://" in text,
        lambda text: "<|" in text,
        lambda text: any(len(word) > 40 and word.isalpha() for word in text.split()),
        lambda text: text.isascii() is False and any(c.isascii() and c.isalpha() for c in text),
        lambda text: not text,
    ],
)
def test_what_tokenizers_disagree_about_is_there(shows):
    assert any(shows(text) for text in parity_corpus())


def test_every_text_can_be_sent():
    """No half of a surrogate pair: it is UTF-8."""
    assert all(text.encode().decode() == text for text in parity_corpus())
