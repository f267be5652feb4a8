from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load

from distill.errors import CacheError
from distill.files import sha256_of_file
from distill.teacher_cache import EncodedRows, TierSettings, make_codec
from distill.teacher_cache.cache_file import write_tensors
from distill.teacher_cache.manifest import VERSION
from distill.teacher_cache.shard import (
    SEQUENCES_FORMAT,
    SequencesReader,
    TierReader,
    tier_metadata,
    write_sequences,
    write_tier_shard,
)
from tests.distill.teacher_cache.synthetic import SHAPE, planned_sequences

SCORES = make_codec(TierSettings(codec="scores"), SHAPE)
SAMPLED = make_codec(TierSettings(codec="sampled", num_samples=9), SHAPE)
SHA = "a" * 64


def sequences(folder: Path, lengths=(1, 2, 3)) -> Path:
    path = folder / "sequences" / "00000.safetensors"
    write_sequences(path, planned_sequences(lengths))
    return path


def rewritten(path: Path, metadata: dict[str, object], **changes: torch.Tensor) -> None:
    tensors = {**load(path.read_bytes()), **changes}
    widest_first = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    write_tensors(path, {name: tensors[name] for name in widest_first}, metadata=metadata)


def score_rows(num_tokens: int) -> EncodedRows:
    return EncodedRows(-torch.arange(1.0, num_tokens + 1)[:, None].contiguous().view(torch.uint8))


def sampled_rows(counts: list[int]) -> EncodedRows:
    """Ids 0, 1, ... in every row; the first one makes up what is missing to nine draws."""
    entries = [index | (9 - count + 1 if index == 0 else 1) << 18 for count in counts for index in range(count)]
    content = b"".join(entry.to_bytes(3, "little") for entry in entries)
    records = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())
    return EncodedRows(records, torch.tensor(counts, dtype=torch.uint8))


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_sequences_read_back_in_their_order(tmp_path_factory, lengths):
    path = tmp_path_factory.mktemp("shard") / "00000.safetensors"
    planned = planned_sequences(lengths)
    record = write_sequences(path, planned)
    reader = SequencesReader(path, vocab_size=SHAPE.vocab_size)
    assert reader.sequence_ids == tuple(sequence.id for sequence in planned)
    assert reader.completion_ids.tolist() == [token for p in planned for token in p.sequence.completion_ids]
    assert reader.offsets.tolist() == [sum(lengths[:count]) for count in range(len(lengths) + 1)]
    found = (reader.num_sequences, reader.num_tokens, sha256_of_file(path), path.stat().st_size)
    assert found == (record.num_sequences, record.num_tokens, record.sha256, record.size_bytes)


def test_equal_sequences_give_equal_bytes(tmp_path: Path):
    assert sequences(tmp_path / "a").read_bytes() == sequences(tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": torch.zeros(3, 31, dtype=torch.uint8)}, r"ids has shape \[3, 31\], not \[3, 32\]"),
        ({"ids": torch.zeros(3, dtype=torch.uint8)}, r"ids has shape \[3\]"),
        ({"ids": torch.zeros(0, 32, dtype=torch.uint8)}, r"ids has shape \[0, 32\]"),
        ({"ids": torch.zeros(3, 32, dtype=torch.uint8)}, "a sequence id stands in it twice"),
        ({"offsets": torch.tensor([0, 1, 3])}, r"offsets has shape \[3\], not \[4\]"),
        ({"offsets": torch.tensor([0, 1, 3, 6]).int()}, "offsets is I32, not I64"),
        ({"offsets": torch.tensor([0, 1, 3, 7])}, "offsets do not climb from 0 to 6"),
        ({"offsets": torch.tensor([-1, 1, 3, 6])}, "offsets do not climb from 0 to 6"),
        ({"offsets": torch.tensor([0, 4, 3, 6])}, "offsets do not climb from 0 to 6"),
        ({"offsets": torch.tensor([0, 1, 1, 6])}, "offsets do not climb from 0 to 6"),
        ({"offsets": torch.tensor([0, -(2**63), 2**62, 6])}, "offsets do not climb from 0 to 6"),
        ({"completion_ids": torch.tensor(1).int()}, r"completion_ids has shape \[\]"),
        ({"completion_ids": torch.tensor([0, 1, 2, 3, 4, -1]).int()}, "completion_ids holds -1"),
        ({"completion_ids": torch.tensor([0, 1, 2, 3, 4, 40]).int()}, "completion_ids holds 40, the vocabulary has 40"),
        ({"completion_ids": torch.zeros(5).int()}, "offsets do not climb from 0 to 5"),
    ],
)
def test_hostile_sequences_are_refused(tmp_path: Path, changes, message):
    path = sequences(tmp_path)
    rewritten(path, {"format": SEQUENCES_FORMAT, "version": VERSION}, **changes)
    with pytest.raises(CacheError, match=rf"sequences/00000\.safetensors .* {message}"):
        SequencesReader(path, vocab_size=SHAPE.vocab_size)


def test_empty_sequences_are_refused(tmp_path: Path):
    path = sequences(tmp_path)
    empty = {"completion_ids": torch.zeros(0).int(), "offsets": torch.zeros(4).long()}
    rewritten(path, {"format": SEQUENCES_FORMAT, "version": VERSION}, **empty)
    with pytest.raises(CacheError, match=r"sequences/00000\.safetensors"):
        SequencesReader(path)


def test_sequences_of_another_version_are_refused(tmp_path: Path):
    path = sequences(tmp_path)
    rewritten(path, {"format": SEQUENCES_FORMAT, "version": 1})
    with pytest.raises(CacheError, match="its header says .*'version': 1"):
        SequencesReader(path)


def test_rows_of_one_width_read_back_from_any_place(tmp_path: Path):
    path = tmp_path / "scores" / "00000.safetensors"
    rows = score_rows(6)
    written = write_tier_shard(path, rows, codec=SCORES, sequences_sha256=SHA)
    assert written.sha256 == sha256_of_file(path)
    reader = TierReader(path, SCORES, num_tokens=6, sequences_sha256=SHA)
    for start, end in ((0, 6), (2, 3), (4, 4)):
        torch.testing.assert_close(reader.rows(start, end).records, rows.records[start:end])
        assert reader.rows(start, end).entry_counts is None


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=40), blocks=st.integers(1, 30))
def test_rows_that_vary_read_back_from_any_place(tmp_path_factory, counts, blocks):
    """Repeated, so that several blocks of counted rows are crossed."""
    counts = counts * blocks
    path = tmp_path_factory.mktemp("sampled") / "00000.safetensors"
    rows = sampled_rows(counts)
    write_tier_shard(path, rows, codec=SAMPLED, sequences_sha256=SHA)
    reader = TierReader(path, SAMPLED, num_tokens=len(counts), sequences_sha256=SHA)
    for start, end in ((0, len(counts)), (len(counts) // 2, len(counts)), (len(counts) // 3, len(counts) // 2)):
        found = reader.rows(start, end)
        assert found.entry_counts is not None
        assert found.entry_counts.tolist() == counts[start:end]
        expected = rows.records[3 * sum(counts[:start]) : 3 * sum(counts[:end])]
        torch.testing.assert_close(found.records, expected)


def test_what_is_read_is_a_copy_of_its_own_size(tmp_path: Path):
    write_tier_shard(tmp_path / "s", score_rows(6), codec=SCORES, sequences_sha256=SHA)
    rows = TierReader(tmp_path / "s", SCORES, num_tokens=6, sequences_sha256=SHA).rows(1, 3)
    assert rows.records.untyped_storage().nbytes() == 2 * 4


@pytest.mark.parametrize(
    ("num_tokens", "sha256", "codec", "message"),
    [
        (5, SHA, SCORES, r"records has shape \[6, 4\], not \[5, 4\]"),
        (6, "b" * 64, SCORES, "its header says"),
        (6, SHA, make_codec(TierSettings(codec="exact"), SHAPE), "its header says .*'codec': 'scores'"),
        (6, SHA, SAMPLED, "its tensors differ from the layout in entry_counts"),
    ],
)
def test_rows_that_belong_to_something_else_are_refused(tmp_path: Path, num_tokens, sha256, codec, message):
    path = tmp_path / "scores" / "00000.safetensors"
    write_tier_shard(path, score_rows(6), codec=SCORES, sequences_sha256=SHA)
    with pytest.raises(CacheError, match=rf"scores/00000\.safetensors .* {message}"):
        TierReader(path, codec, num_tokens=num_tokens, sequences_sha256=sha256)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"records": torch.zeros(17, dtype=torch.uint8)}, "its entry counts promise 18 bytes, records has 17"),
        ({"records": torch.zeros(6, 3, dtype=torch.uint8)}, r"records has shape \[6, 3\]"),
        ({"entry_counts": torch.tensor([1, 2], dtype=torch.uint8)}, r"entry_counts has shape \[2\], not \[3\]"),
        ({"entry_counts": torch.tensor([1, 2, 255], dtype=torch.uint8)}, "its entry counts promise 774 bytes"),
    ],
)
def test_entry_counts_that_contradict_the_records_are_refused(tmp_path: Path, changes, message):
    path = tmp_path / "sampled" / "00000.safetensors"
    write_tier_shard(path, sampled_rows([1, 2, 3]), codec=SAMPLED, sequences_sha256=SHA)
    rewritten(path, tier_metadata(SAMPLED, SHA), **changes)
    with pytest.raises(CacheError, match=message):
        TierReader(path, SAMPLED, num_tokens=3, sequences_sha256=SHA)


def test_numbers_that_the_codec_cannot_have_written_are_refused(tmp_path: Path):
    path = tmp_path / "scores" / "00000.safetensors"
    rows = score_rows(6)
    write_tier_shard(path, rows, codec=SCORES, sequences_sha256=SHA)
    TierReader(path, SCORES, num_tokens=6, sequences_sha256=SHA).check_numbers()
    rows.records.view(torch.float32)[4] = float("nan")
    write_tier_shard(path, rows, codec=SCORES, sequences_sha256=SHA)
    with pytest.raises(CacheError, match=r"scores/00000\.safetensors .* its rows from 0 on are no scores: "):
        TierReader(path, SCORES, num_tokens=6, sequences_sha256=SHA).check_numbers()
