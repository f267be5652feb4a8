"""An export that is cut off, crowded out or runs out of room leaves whole artefacts or none."""

import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from distill.errors import ArtefactError, ExportError, StageError
from distill.export import export_model, verify_artefacts, verify_export
from distill.files import locked, write_jsonl

GGUF = "gguf-q8_0/model-q8_0.gguf"
_PROGRAM = """
import sys
from pathlib import Path
from distill.data import read_conversations
from distill.export import ExportSettings, export_model
settings = ExportSettings(formats=("gguf-q8_0",), max_new_tokens=24, num_smoke_prompts=3, measures_speed=False)
model, out, chats = map(Path, sys.argv[1:])
export_model(model, formats=("gguf-q8_0",), output_dir=out, prompts=read_conversations(chats), settings=settings)
"""


@pytest.fixture
def half(gguf_export, tmp_path):
    """The merged model is finished, nothing else."""
    folder = tmp_path / "half"
    shutil.copytree(gguf_export / "safetensors", folder / "safetensors")
    return folder


def names(folder):
    return {path.name for path in folder.iterdir()}


@contextmanager
def largest_file(size_bytes):
    """Writing past so many bytes fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_after_a_kill_the_same_command_ends_in_the_same_bytes(
    half, gguf_export, export_gguf, llama_folder, dialogues, tmp_path
):
    """kill -9 while the second artefact is in the making: the first is kept as it is, the second made whole."""
    write_jsonl(tmp_path / "chats.jsonl", [dialogue.to_json() for dialogue in dialogues[:3]])
    command = [sys.executable, "-c", _PROGRAM, str(llama_folder), str(half), str(tmp_path / "chats.jsonl")]
    child = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        while not any(half.glob(".gguf-q8_0.*.partial/*.gguf")):
            assert child.poll() is None, child.stderr.read().decode()
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
        child.stderr.close()
    assert not (half / "gguf-q8_0").exists()
    assert [row.format for row in verify_export(half).artefacts] == ["safetensors"]
    assert (half / "checks.json").exists()
    before = (half / "safetensors").stat().st_mtime_ns
    export_gguf(half)
    assert (half / "safetensors").stat().st_mtime_ns == before
    assert names(half) == names(gguf_export)
    for name in ("model-q8_0.gguf", "Modelfile", "export.lock.json"):
        assert (half / "gguf-q8_0" / name).read_bytes() == (gguf_export / "gguf-q8_0" / name).read_bytes()


def test_a_second_export_into_the_folder_is_refused_and_touches_nothing(half, export_gguf):
    with locked(half / ".lock"), pytest.raises(StageError, match="half is in use by another process"):
        export_gguf(half)
    assert names(half) == {"safetensors", ".lock"}


def test_a_full_disk_in_the_middle_of_a_gguf_leaves_none(half, gguf_export, export_gguf):
    whole = (gguf_export / GGUF).read_bytes()
    with pytest.raises(ExportError, match="gguf-q8_0: its files cannot be written"), largest_file(len(whole) // 2):
        export_gguf(half)
    assert not (half / "gguf-q8_0").exists()
    assert not list(half.glob(".*.partial"))
    assert [row.format for row in verify_export(half).artefacts] == ["safetensors"]
    export_gguf(half)
    assert (half / GGUF).read_bytes() == whole


def test_a_full_disk_in_the_middle_of_the_merged_weights_leaves_nothing(export_gguf, tmp_path):
    with pytest.raises(ExportError, match="safetensors: its files cannot be written"), largest_file(100_000):
        export_gguf(tmp_path / "out")
    assert names(tmp_path / "out") == {".lock", "checks.json"}


def test_what_was_made_from_other_inputs_is_told_apart(gguf_export, llama_folder, dialogues, tmp_path):
    """The record of the checks is written before the first artefact: one that is left over does not pass as new."""
    out = shutil.copytree(gguf_export, tmp_path / "out")
    with pytest.raises(ExportError), largest_file(100_000):
        export_model(llama_folder, formats=("gguf-q8_0",), output_dir=out, prompts=dialogues[:2])
    with pytest.raises(ArtefactError, match=r"was not made from what checks\.json says"):
        verify_artefacts(out)
