import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

from distill.errors import CacheError
from distill.files import sha256_of_file
from distill.teacher_cache.cache_file import (
    MAX_HEADER_BYTES,
    check_header_size,
    mapped_file,
    plain_file_bytes,
    require_metadata,
    require_shapes,
    write_tensors,
)

TENSORS = {"offsets": torch.tensor([0, 3]), "ids": torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.uint8)}
DTYPES = {"offsets": torch.int64, "ids": torch.uint8}
METADATA = {"format": "f", "version": 2}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tier" / "00000.safetensors"
    write_tensors(path, TENSORS, metadata=METADATA)
    return path


def test_what_is_written_is_safetensors_and_reads_back(path: Path):
    for name, values in load(path.read_bytes()).items():
        torch.testing.assert_close(values, TENSORS[name])
    found = mapped_file(path, DTYPES)
    assert found.metadata == METADATA
    assert found.shapes == {"offsets": [2], "ids": [3, 2]}
    for name, values in found.values.items():
        torch.testing.assert_close(values, TENSORS[name])


def test_checksum_and_size_are_known_from_writing(tmp_path: Path):
    written = write_tensors(tmp_path / "a", TENSORS, metadata=METADATA)
    assert written.sha256 == sha256_of_file(tmp_path / "a")
    assert written.size_bytes == (tmp_path / "a").stat().st_size
    assert write_tensors(tmp_path / "b", TENSORS, metadata=METADATA) == written


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(CacheError, match=r"tier/00007\.safetensors .* the file is missing"):
        mapped_file(tmp_path / "tier" / "00007.safetensors", DTYPES)
    with pytest.raises(CacheError, match="cannot be opened"):
        mapped_file(tmp_path, DTYPES)


@pytest.mark.parametrize("kept_bytes", [0, 4, 100, -1])
def test_a_file_that_is_cut_off_is_named(path: Path, kept_bytes: int):
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(CacheError, match=r"tier/00000\.safetensors .* cannot be opened"):
        mapped_file(path, DTYPES)


def test_a_huge_header_is_refused_before_it_is_parsed(path: Path):
    huge = MAX_HEADER_BYTES + 8
    path.write_bytes(huge.to_bytes(8, "little") + b"[" * huge)
    with pytest.raises(CacheError, match=f"its header claims {huge} bytes, more than {MAX_HEADER_BYTES}"):
        check_header_size(path)
    path.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(CacheError, match="10 bytes cannot hold its header"):
        mapped_file(path, DTYPES)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"ids": {"dtype": "U8", "shape": [2], "data_offsets": [0, 3]}}, "cannot be opened"),
        ({"ids": {"dtype": "U8", "shape": [2**62, 4], "data_offsets": [0, 2]}}, "cannot be opened"),
        ({"ids": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, "cannot be opened"),
        (
            {
                "ids": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
                "offsets": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]},
            },
            "cannot be opened",
        ),
        ({"ids": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}, "differ from the layout in offsets"),
    ],
)
def test_offsets_that_overlap_overflow_or_leave_the_file_are_refused(path: Path, entries, message):
    text = json.dumps(entries).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0\0\0")
    with pytest.raises(CacheError, match=message):
        mapped_file(path, DTYPES)


@pytest.mark.parametrize("shape", [[2**63, 0], [2**64 - 1, 0], [0, 2**62], [1] * 20_000, [1, 1, 1]])
def test_shapes_that_torch_or_numpy_cannot_hold_are_refused_in_few_words(path: Path, shape: list[int]):
    size = math.prod(shape)
    entries = {
        "__metadata__": {"distill": "{}"},
        "ids": {"dtype": "U8", "shape": shape, "data_offsets": [0, size]},
        "offsets": {"dtype": "I64", "shape": [0], "data_offsets": [size, size]},
    }
    text = json.dumps(entries, separators=(",", ":")).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    with pytest.raises(CacheError, match=r"tier/00000\.safetensors .*: ids has shape .*, which no file of") as caught:
        mapped_file(path, DTYPES)
    assert len(caught.value.what) < 250


def test_a_pipe_or_a_device_is_refused_unread(path: Path):
    """Opening a pipe that nobody writes to would wait for ever."""
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CacheError, match="cannot be opened: .*no plain file"):
        mapped_file(path, DTYPES)
    with pytest.raises(OSError, match="no plain file"):
        plain_file_bytes(path, max_bytes=10)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(CacheError, match="cannot be opened: .*no plain file"):
        mapped_file(path, DTYPES)


def test_a_small_file_is_read_up_to_its_limit(path: Path):
    path.write_bytes(b"12345")
    assert plain_file_bytes(path, max_bytes=5) == b"12345"
    with pytest.raises(OSError, match="it has 5 bytes, more than 4"):
        plain_file_bytes(path, max_bytes=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": None}, "its tensors differ from the layout in ids"),
        ({"extra": torch.zeros(1)}, "its tensors differ from the layout in extra"),
        ({"ids": torch.zeros(3, 2)}, "ids is F32, not U8"),
    ],
)
def test_other_tensors_and_dtypes_are_refused(path: Path, changes, message):
    tensors = {name: tensor for name, tensor in (TENSORS | changes).items() if tensor is not None}
    save_file(tensors, path, metadata={"distill": json.dumps(METADATA)})
    with pytest.raises(CacheError, match=message):
        mapped_file(path, DTYPES)


@pytest.mark.parametrize("metadata", [None, {"distill": "{"}, {"distill": "[" * 30_000}, {"other": "{}"}])
def test_a_file_of_something_else_is_refused(path: Path, metadata):
    save_file(TENSORS, path, metadata=metadata)
    with pytest.raises(CacheError, match="it is not a file of a teacher cache"):
        mapped_file(path, DTYPES)


def test_metadata_and_shapes_are_compared_with_what_was_expected():
    require_metadata(Path("t/0"), METADATA, METADATA)
    require_shapes(Path("t/0"), {"ids": [3, 2]}, {"ids": [3, 2]})
    with pytest.raises(CacheError, match=r"its header says \[1\], not \{'format'"):
        require_metadata(Path("t/0"), [1], METADATA)
    with pytest.raises(CacheError, match=r"t/0 of the teacher cache is damaged: ids has shape \[3, 2\], not \[3, 4\]"):
        require_shapes(Path("t/0"), {"ids": [3, 2]}, {"ids": [3, 4]})
