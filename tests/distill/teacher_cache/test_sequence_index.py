import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data import TokenizedSequence
from distill.errors import CacheError
from distill.teacher_cache.manifest import sequences_path
from distill.teacher_cache.plan import PlannedSequence
from distill.teacher_cache.sequence_index import SequenceIndex
from distill.teacher_cache.shard import SequencesReader, write_sequences

# Ids that agree in all bytes but one, as only a forger's do, beside ordinary ones.
IDS = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.builds(lambda tail: bytes(8) + bytes(23) + bytes([tail]), st.integers(0, 20)),
)


def shards(folder: Path, *parts: list[bytes]) -> list[SequencesReader]:
    """Sequences with these ids; in each shard the first has one token, each further one a token more."""
    readers = []
    for number, ids in enumerate(parts):
        planned = [
            PlannedSequence(content.hex(), TokenizedSequence((1,), (2,) * length))
            for length, content in enumerate(ids, 1)
        ]
        write_sequences(sequences_path(folder, number), planned)
        readers.append(SequencesReader(sequences_path(folder, number)))
    return readers


@settings(max_examples=15)
@given(
    ids=st.lists(IDS, min_size=2, max_size=30, unique=True), cut=st.integers(1, 29), others=st.lists(IDS, max_size=5)
)
def test_every_id_is_found_where_it_stands_and_no_other_is(tmp_path_factory, ids, cut, others):
    cut = min(cut, len(ids) - 1)
    index = SequenceIndex(shards(tmp_path_factory.mktemp("index"), ids[:cut], ids[cut:]))
    texts = [content.hex() for content in ids]
    assert index.sequence_ids == texts
    assert len(index) == len(ids)
    asked = [*reversed(texts), *(other.hex() for other in others)]
    expected = [texts.index(text) if text in texts else -1 for text in asked]
    assert index.positions(asked).tolist() == expected
    places = index.places(np.arange(len(ids)))
    assert places.shards.tolist() == [0] * cut + [1] * (len(ids) - cut)
    assert places.lengths.tolist() == [*range(1, cut + 1), *range(1, len(ids) - cut + 1)]
    assert next(iter(places)) == (0, 0, 1)


@pytest.mark.parametrize("text", ["", "0", "zz" * 32, "00" * 31, "00" * 33, "0 " * 32, "00" * 30 + " 00 "])
def test_what_is_no_id_is_not_found_and_hides_no_other(tmp_path, text):
    index = SequenceIndex(shards(tmp_path, [bytes(32), bytes([1]) * 32]))
    assert index.positions([text]).tolist() == [-1]
    assert index.positions([text, "01" * 32, text]).tolist() == [-1, 1, -1]
    assert index.positions([]).tolist() == []


def test_a_sequence_in_two_shards_is_refused_by_the_second(tmp_path):
    one, two = bytes([1]) * 32, bytes([2]) * 32
    with pytest.raises(
        CacheError, match=r"sequences/00001\.safetensors .* sequence 020202020202 stands in another shard too"
    ):
        SequenceIndex(shards(tmp_path, [one, two], [two]))


def test_forged_ids_cost_no_more_to_find_than_others(tmp_path):
    """Ids that agree in 28 bytes, whichever: a second for 20,000 of them, where one by one takes a minute."""
    texts = [bytes(28).hex() + number.to_bytes(4, "big").hex() for number in range(20_000)]
    texts += [number.to_bytes(4, "big").hex() + bytes(28).hex() for number in range(1, 20_000)]
    planned = [PlannedSequence(text, TokenizedSequence((1,), (2,))) for text in texts]
    path = sequences_path(tmp_path, 0)
    write_sequences(path, planned)
    begun = time.process_time()
    index = SequenceIndex([SequencesReader(path)])
    assert index.positions(texts).tolist() == list(range(len(texts)))
    assert time.process_time() - begun < 2


def test_ids_that_only_begin_alike_are_no_duplicates(tmp_path):
    ids = [bytes(8) + bytes([number]) * 24 for number in range(3)]
    index = SequenceIndex(shards(tmp_path, ids[:2], ids[2:]))
    assert index.positions([content.hex() for content in ids]).tolist() == [0, 1, 2]
