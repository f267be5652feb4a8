from distill.data import CHAT_TEMPLATE
from distill.models import train_tokenizer
from distill.teacher_cache.vocabulary import tokenizer_fingerprint


def test_equal_vocabularies_have_one_fingerprint(teacher):
    other = train_tokenizer(["a small latte"], vocab_size=270, chat_template=CHAT_TEMPLATE)
    again = train_tokenizer(["a small latte"], vocab_size=270, chat_template=CHAT_TEMPLATE)
    assert tokenizer_fingerprint(other) == tokenizer_fingerprint(again)
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(teacher.tokenizer)


def test_one_more_token_is_another_vocabulary():
    tokenizer = train_tokenizer(["a small latte"], vocab_size=270, chat_template=CHAT_TEMPLATE)
    before = tokenizer_fingerprint(tokenizer)
    tokenizer.add_tokens(["<|new|>"])
    assert tokenizer_fingerprint(tokenizer) != before
