import os
from pathlib import Path

import pytest

from distill.teacher_cache import ShardRecord, TierSettings
from distill.teacher_cache.shard_records import (
    MAX_RECORD_BYTES,
    Writing,
    read_committed_shard,
    read_shard_record,
    write_shard_record,
)

RECORD = ShardRecord(
    name="00003.safetensors",
    sha256="a" * 64,
    size_bytes=10,
    num_sequences=2,
    num_tokens=5,
    sequences_sha256="b" * 64,
)
WRITING = Writing(host="here", process_id=1, elapsed_s=2.0, tokens_per_s=2.5, versions={"torch": "2"})
TOP_3 = TierSettings(codec="top-k", k=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shard_record(tmp_path, TOP_3, 3, record=RECORD, writing=WRITING)
    return tmp_path


def test_a_record_reads_back_with_who_wrote_it(folder: Path):
    assert read_shard_record(folder, "top-k", 3) == RECORD
    committed = read_committed_shard(folder, "top-k", 3)
    assert committed is not None
    assert (committed.settings, committed.writing) == (TOP_3, WRITING)


def test_a_shard_without_record_is_not_finished(folder: Path):
    assert read_shard_record(folder, "top-k", 4) is None
    assert read_shard_record(folder, "scores", 3) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"record": 1}'])
def test_a_record_that_cannot_be_read_counts_as_none_and_is_said(folder: Path, caplog, content: bytes):
    (folder / "top-k" / "00003.json").write_bytes(content)
    assert read_shard_record(folder, "top-k", 3) is None
    assert "its shard counts as unfinished" in caplog.text


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to itself", "too large"])
def test_a_record_that_is_no_small_file_counts_as_none_and_is_said(folder: Path, caplog, kind: str):
    path = folder / "top-k" / "00003.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to itself":
        path.symlink_to(path)
    else:
        path.write_bytes(b" " * (MAX_RECORD_BYTES + 1))
    assert read_shard_record(folder, "top-k", 3) is None
    assert "00003.json cannot be read, its shard counts as unfinished" in caplog.text


@pytest.mark.parametrize(("codec", "number"), [("top-k", 4), ("scores", 3)])
def test_the_record_of_another_shard_counts_as_none(folder: Path, caplog, codec, number):
    path = folder / codec / f"{number:05d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((folder / "top-k" / "00003.json").read_bytes())
    assert read_shard_record(folder, codec, number) is None
    assert "is the record of another shard" in caplog.text
