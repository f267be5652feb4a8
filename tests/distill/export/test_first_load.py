"""Header lies found by changing every number of a real file; the aborts are llama.cpp's own."""

import struct

import pytest

from distill.errors import ArtefactError
from distill.export.first_load import require_loads
from distill.export.gguf import write_gguf


@pytest.fixture(scope="module")
def whole(llama_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(llama_folder, path, file_type="q8_0")
    return path


def after(data: bytes, key: bytes) -> int:
    return data.index(key) + len(key) + 4


def test_a_whole_file_loads(whole):
    require_loads(whole)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (8, struct.pack("<Q", 2**63 - 1)),  # tensors
        (16, struct.pack("<Q", 2**31)),  # keys
        (24, struct.pack("<Q", 2**62)),  # length of the first key
        (b"tokenizer.ggml.tokens", struct.pack("<IQ", 8, 2**60)),  # length of an array of strings
    ],
    ids=["tensors", "keys", "key length", "array length"],
)
def test_counts_that_no_file_holds_are_refused(whole, tmp_path, at, value):
    data = bytearray(whole.read_bytes())
    at = at if isinstance(at, int) else after(data, at)
    data[at : at + len(value)] = value
    (tmp_path / "m.gguf").write_bytes(data)
    with pytest.raises(ArtefactError, match=r"m\.gguf is not loaded by llama\.cpp"):
        require_loads(tmp_path / "m.gguf")


def test_an_abort_ends_only_the_process_that_tried(whole, tmp_path):
    data = whole.read_bytes()
    at = after(data, b"llama.context_length")
    (tmp_path / "m.gguf").write_bytes(data[:at] + bytes(4) + data[at + 4 :])
    with pytest.raises(ArtefactError) as caught:
        require_loads(tmp_path / "m.gguf")
    assert "SIGABRT" in caught.value.why


def test_no_module_is_taken_from_the_working_directory(tmp_path, monkeypatch):
    """`verify .` runs in a folder that somebody else may have filled."""
    (tmp_path / "json.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtefactError, match=r"m\.gguf is not loaded"):
        require_loads(tmp_path / "m.gguf")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_takes_too_long_is_refused(whole):
    with pytest.raises(ArtefactError, match="not loaded by llama.cpp within 0.001 s"):
        require_loads(whole, timeout_s=0.001)
