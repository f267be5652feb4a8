import pytest

from distill.errors import ModelError
from distill.models import end_ids, new_model, set_special_ids, train_tokenizer

TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}"


@pytest.fixture
def two_ends(texts):
    """Turns end in <|end|>, texts in <|pad|>, and the model names a third token."""
    tokenizer = train_tokenizer(texts, vocab_size=300, chat_template=TEMPLATE, end_of_turn="<|pad|>")
    tokenizer.add_special_tokens({"bos_token": "<|end|>"})
    return tokenizer


def test_end_of_turn_end_of_text_and_the_models_own_all_end_an_answer(two_ends, sizes):
    model = new_model(sizes, two_ends, seed=0)
    model.generation_config.eos_token_id = 99
    end, pad = two_ends.convert_tokens_to_ids(["<|end|>", "<|pad|>"])
    set_special_ids(model, two_ends)
    assert end_ids(model, two_ends) == (end, pad, 99)
    assert model.generation_config.eos_token_id == [end, pad, 99]
    assert model.config.eos_token_id == [end, pad, 99]


def test_one_end_is_listed_once(model, tokenizer):
    assert end_ids(model, tokenizer) == (tokenizer.eos_token_id,)


def test_a_tokenizer_without_padding_pads_with_the_end_token(model, texts):
    bare = train_tokenizer(texts, vocab_size=300, chat_template=TEMPLATE)
    bare.pad_token = None
    set_special_ids(model, bare)
    assert bare.pad_token == "<|end|>"
    assert model.config.pad_token_id == bare.pad_token_id


def test_a_template_that_ends_answers_in_plain_text_is_refused(model, texts):
    endless = train_tokenizer(texts, vocab_size=300, chat_template=TEMPLATE.replace("<|end|>", "\n"))
    with pytest.raises(ModelError, match="no special token ends the assistant's turn"):
        end_ids(model, endless)
