import tokenizers
from tokenizers import decoders, models
from transformers import PreTrainedTokenizerFast

from distill.decoding.endpoint_tokens import TokenNames


def test_an_id_names_its_token(loaded):
    names = TokenNames(loaded.tokenizer)
    assert names.id_of("token_id:17") == 17
    assert names.is_name_of("token_id:17", 17)
    assert not names.is_name_of("token_id:18", 17)


def test_a_text_that_one_token_has_names_it(loaded):
    names, tokenizer = TokenNames(loaded.tokenizer), loaded.tokenizer
    for text in ("a", "?", " coffee", "<|end|>"):
        (token_id,) = tokenizer.encode(text, add_special_tokens=False)
        assert names.id_of(text) == token_id
        assert names.is_name_of(text, token_id)


def test_texts_that_many_tokens_share_name_none(loaded):
    """Bytes 128 to 255 are no text on their own: all read as the replacement character."""
    names = TokenNames(loaded.tokenizer)
    shared = [token for token in range(len(loaded.tokenizer)) if names.text_of(token) == "�"]
    assert len(shared) > 1
    assert names.id_of("�") is None


def test_an_unknown_name_names_none(loaded):
    names = TokenNames(loaded.tokenizer)
    assert names.id_of("no such token") is None
    assert names.id_of("token_id:x") is None
    assert not names.is_name_of("no such token", 17)


def test_a_word_of_sentencepiece_keeps_its_space():
    """Decoded alone it loses it: "▁tea" and "tea" would read alike."""
    vocabulary = {"▁tea": 0, "tea": 1, "<unk>": 2}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    names = TokenNames(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"))
    assert (names.id_of(" tea"), names.id_of("tea")) == (0, 1)


def test_an_id_beyond_the_tokenizer_has_a_text_too(loaded):
    assert TokenNames(loaded.tokenizer).text_of(10_000) == "token_id:10000"
