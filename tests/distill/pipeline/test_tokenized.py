import logging

import pytest

from distill.data import CHAT_TEMPLATE, Conversation, Message, PreferencePair, TokenizedPair, TokenizedSequence
from distill.errors import DataError
from distill.models import train_tokenizer
from distill.pipeline.tokenized import tokenized_conversations, tokenized_pairs, whole_in_both

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


def _pair(name: str, chosen: tuple[int, ...], rejected: tuple[int, ...]) -> TokenizedPair:
    return TokenizedPair(name, TokenizedSequence((1,), chosen), TokenizedSequence((1,), rejected))


def test_what_either_tokenizer_cuts_off_is_left_out_on_both_sides_and_counted(caplog: pytest.LogCaptureFixture):
    """End tokens 9 and 7: b is cut off by the first, c by the second, d is not there in the second at all."""
    students = [_pair("a", (3, 9), (9,)), _pair("b", (3,), (9,)), _pair("c", (9,), (9,)), _pair("d", (9,), (9,))]
    teachers = [_pair("a", (7,), (2, 2, 7)), _pair("b", (7,), (7,)), _pair("c", (7,), (9,))]
    own, other = whole_in_both(students, teachers, end_ids=(9, 7), max_length_tokens=5)
    assert (own, other) == (students[:1], teachers[:1])
    assert "left out 3 pairs" in caplog.text


def test_no_pair_that_both_read_whole_is_refused():
    pair = _pair("a", (3,), (9,))
    with pytest.raises(DataError, match="none of 1 pairs is whole within max_length_tokens=5 for both tokenizers"):
        whole_in_both([pair], [pair], end_ids=(9, 9), max_length_tokens=5)
