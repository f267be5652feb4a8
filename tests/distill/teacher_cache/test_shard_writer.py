import errno
import os
import resource

import pytest
import torch

from distill.teacher_cache.codecs import EncodedRows, HeadShape, TierSettings, joined, make_codec
from distill.teacher_cache.shard import write_tier_shard
from distill.teacher_cache.shard_writer import TierShardWriter

SHA256 = "ab" * 32
SCORES = make_codec(TierSettings(codec="scores"), HeadShape(vocab_size=9, hidden_size=2))
SAMPLED = make_codec(TierSettings(codec="sampled", num_samples=3), HeadShape(vocab_size=9, hidden_size=2))


def scores(*values: float) -> EncodedRows:
    return EncodedRows(torch.tensor(values, dtype=torch.float32)[:, None].view(torch.uint8))


PARTS = {
    "scores": (SCORES, [scores(-1.0, -2.0), scores(-0.5)]),
    "sampled": (
        SAMPLED,
        [
            EncodedRows(torch.arange(9, dtype=torch.uint8), torch.tensor([1, 2], dtype=torch.uint8)),
            EncodedRows(torch.arange(3, dtype=torch.uint8), torch.tensor([1], dtype=torch.uint8)),
        ],
    ),
}


@pytest.mark.parametrize("name", sorted(PARTS))
def test_rows_in_parts_make_the_bytes_of_rows_at_once(tmp_path, name):
    codec, parts = PARTS[name]
    writer = TierShardWriter(tmp_path / "parts.safetensors", codec=codec, sequences_sha256=SHA256, num_tokens=3)
    for part in parts:
        writer.append(part)
    found = writer.commit()
    expected = write_tier_shard(tmp_path / "whole.safetensors", joined(parts), codec=codec, sequences_sha256=SHA256)
    assert found == expected
    assert (tmp_path / "parts.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    writer.discard()
    assert (tmp_path / "parts.safetensors").exists()


@pytest.mark.parametrize("name", sorted(PARTS))
def test_nothing_appears_before_the_commit_and_nothing_stays_after_a_discard(tmp_path, name):
    codec, parts = PARTS[name]
    writer = TierShardWriter(tmp_path / "x.safetensors", codec=codec, sequences_sha256=SHA256, num_tokens=3)
    writer.append(parts[0])
    assert not (tmp_path / "x.safetensors").exists()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_a_row_leaves_nothing_half_written(tmp_path):
    """A limit on file sizes stands in for a full disk."""
    writer = TierShardWriter(tmp_path / "x.safetensors", codec=SCORES, sequences_sha256=SHA256, num_tokens=5_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            writer.append(EncodedRows(torch.zeros(5_000, 4, dtype=torch.uint8)))
        writer.discard()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
