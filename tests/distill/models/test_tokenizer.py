import json

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from distill.data import CHAT_TEMPLATE, SPECIAL_TOKENS, Message, render_prompt
from distill.decoding import LlamaCppGenerator
from distill.errors import ModelError
from distill.export.gguf import write_gguf
from distill.models import load_tokenizer, new_model, save_model, train_tokenizer
from distill.models.tokenizer import GPT2_PIECES, _pieces

PRICES = "Is it $4.50 or $ 12 at 12:30? 007  3rd x2 2x\n 42\n\n9,999.00 ½ 1½ ²"
CORPUS = [
    "It is $4.50 at 12:30, 12:30 or 12:45. Pay $4.50 now, then $12 at 9. 100 100 100",
    "naïve café, that's it; we'll see    four   spaces\n\nand 4 lines\n",
] * 9


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def trained(request):
    return request.param, train_tokenizer(
        CORPUS, vocab_size=400, chat_template=CHAT_TEMPLATE, architecture=request.param
    )


def ids(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_every_digit_is_a_token_of_its_own(trained):
    _, tokenizer = trained
    digits = [
        token
        for token in tokenizer.convert_ids_to_tokens(ids(tokenizer, PRICES))
        if any(c in "0123456789" for c in token)
    ]
    assert "".join(digits) == "".join(c for c in PRICES if c in "0123456789")
    assert not [token for token in tokenizer.get_vocab() if len(token) > 1 and any(c in "0123456789" for c in token)]


@given(st.text(alphabet=st.sampled_from("0123456789 $.:ax\n'½é漢\t"), max_size=30))
def test_cutting_at_digits_changes_nothing_once_no_merge_holds_one(text: str):
    """The tokenizer is trained with a pre-tokenizer that cuts at digits and kept with one that does not."""
    tokenizer = _trained_once()
    cut = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    cut.pre_tokenizer = _pieces(GPT2_PIECES, "[0-9]")
    assert cut.encode(text).ids == ids(tokenizer, text)


@given(st.text(max_size=40))
def test_any_text_comes_back(text: str):
    tokenizer = _trained_once()
    assert tokenizer.decode(ids(tokenizer, text)) == text


def test_equal_texts_give_an_equal_tokenizer(trained):
    architecture, tokenizer = trained
    again = train_tokenizer(iter(CORPUS), vocab_size=400, chat_template=CHAT_TEMPLATE, architecture=architecture)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_special_tokens_are_whole_and_first(trained):
    _, tokenizer = trained
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4]
    assert ids(tokenizer, "<|user|>a<|end|>") == [1, *ids(tokenizer, "a"), 3]


def test_a_saved_model_folder_tokenizes_alike(trained, sizes, tmp_path):
    architecture, tokenizer = trained
    model = new_model(sizes.model_copy(update={"architecture": architecture}), tokenizer, seed=0)
    save_model(model, tokenizer, tmp_path / "model")
    again = load_tokenizer(tmp_path / "model")
    assert len(again) == len(tokenizer)
    assert again.chat_template == CHAT_TEMPLATE
    for text in [PRICES, *CORPUS, "<|user|>4<|end|>"]:
        assert ids(again, text) == ids(tokenizer, text)


def test_llama_cpp_tokenizes_alike(trained, sizes, tmp_path):
    architecture, tokenizer = trained
    model = new_model(sizes.model_copy(update={"architecture": architecture}), tokenizer, seed=0)
    save_model(model, tokenizer, tmp_path / "model")
    write_gguf(tmp_path / "model", tmp_path / "model.gguf", file_type="f32")
    chat = [Message("system", "Be brief."), Message("user", PRICES)]
    with LlamaCppGenerator(tmp_path / "model.gguf", num_threads=1) as generator:
        for text in [PRICES, *CORPUS, " 4", "  4", "$4", " $4.50", "12:30 ", "日本 7", "it's 5'll", "\t\t8\n\n 8"]:
            assert generator.tokenize(text) == ids(tokenizer, text), text
        assert generator.tokenize(generator.render(chat)) == render_prompt(tokenizer, chat)


def test_a_tokenizer_folder_needs_no_weights(tmp_path):
    _trained_once().save_pretrained(str(tmp_path))
    assert ids(load_tokenizer(tmp_path), PRICES) == ids(_trained_once(), PRICES)


def test_a_vocabulary_without_room_for_all_bytes_is_refused():
    with pytest.raises(ModelError, match="tokenizer_vocab_size is 260"):
        train_tokenizer(CORPUS, vocab_size=260, chat_template=CHAT_TEMPLATE)


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    with pytest.raises(ModelError, match="has no tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("damage", ["{", '{"model": {}}'])
def test_a_damaged_tokenizer_is_refused(saved, damage: str):
    (saved / "tokenizer.json").write_text(damage)
    with pytest.raises(ModelError, match=r"tokenizer"):
        load_tokenizer(saved)


def test_no_setting_of_the_tokenizer_names_this_machine(saved):
    assert "/" not in json.loads((saved / "tokenizer_config.json").read_text()).get("name_or_path", "")


_KEPT: list = []


def _trained_once():
    if not _KEPT:
        _KEPT.append(train_tokenizer(CORPUS, vocab_size=400, chat_template=CHAT_TEMPLATE))
    return _KEPT[0]
