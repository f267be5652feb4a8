from typing import get_args

import pytest

from distill.errors import CacheError
from distill.teacher_cache.codecs import CODECS, CodecName, decode_samples, decode_top_k, hidden_states
from tests.distill.teacher_cache.codecs.examples import codec_for, encoded, some_head, some_states


def test_the_table_holds_every_codec_under_its_own_name():
    assert list(CODECS) == list(get_args(CodecName))
    assert all(codec.name == name for name, codec in CODECS.items())


def test_which_codecs_need_what():
    assert {name for name, codec in CODECS.items() if codec.needs_head} == {"exact", "exact-int8"}
    assert {name for name, codec in CODECS.items() if not codec.needs_logits} == {"exact", "exact-int8"}
    assert {name for name, codec in CODECS.items() if codec.has_distributions} == {
        "exact",
        "exact-int8",
        "logits-bf16",
    }


@pytest.mark.parametrize(
    ("decoder", "wanted"), [(decode_top_k, "top-k"), (decode_samples, "sampled"), (hidden_states, "exact")]
)
def test_a_decoder_refuses_the_rows_of_another_codec(decoder, wanted):
    head = some_head()
    codec = codec_for(head, codec="scores")
    with pytest.raises(CacheError, match=rf"codec scores stores no (.|\n)*cache.codec=\[scores,{wanted}\]"):
        decoder(codec, encoded(codec, some_states(1), head))
