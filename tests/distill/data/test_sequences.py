import hashlib
import struct

from hypothesis import given

from distill.data.sequences import TokenizedSequence, sequence_id
from tests.strategies import token_ids


def test_sequence_id_known_bytes():
    """Prompt (1, 2), completion (3): lengths 2 and 1 before the ids, all little-endian int64."""
    assert sequence_id([1, 2], [3]) == hashlib.sha256(struct.pack("<5q", 2, 1, 2, 1, 3)).hexdigest()


@given(token_ids(min_size=2))
def test_sequence_id_depends_on_where_the_prompt_ends(ids):
    assert sequence_id(ids[:1], ids[1:]) != sequence_id(ids, [])


@given(token_ids(), token_ids())
def test_sequence_id_is_of_the_content(prompt, completion):
    assert TokenizedSequence(tuple(prompt), tuple(completion)).sequence_id == sequence_id(prompt, completion)
