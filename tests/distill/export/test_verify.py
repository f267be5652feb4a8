"""One small export, spoilt in every way that a disk or a hand can spoil it."""

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from distill.errors import ArtefactError, GateError, RecipeError
from distill.export import verify_artefacts, verify_export
from distill.export.checks import read_checks
from distill.export.checksums import write_checksums
from distill.files import read_json, write_json

GGUF = "gguf-q8_0/model-q8_0.gguf"


@pytest.fixture
def copy(gguf_export, tmp_path):
    return shutil.copytree(gguf_export, tmp_path / "copy")


def spoil(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        del data[-1:]
    elif how == "corrupted":
        data[len(data) // 2] ^= 1
    else:
        data += b"x"
    path.write_bytes(data)


def test_an_untouched_export_passes_and_is_measured_again(gguf_export):
    report = verify_artefacts(gguf_export)
    assert [artefact.format for artefact in report.artefacts] == ["safetensors", "gguf-q8_0"]
    stored = json.loads((gguf_export / "gguf-q8_0" / "artefact.json").read_text())
    assert report.artefacts[1].fidelity.kl_nats == pytest.approx(stored["fidelity"]["kl_nats"], rel=1e-2)
    assert report.artefacts[1].smoke.num_same_text == stored["smoke"]["num_same_text"]


@pytest.mark.parametrize("how", ["truncated", "corrupted", "lengthened"])
@pytest.mark.parametrize(
    "name",
    [GGUF, "gguf-q8_0/Modelfile", "gguf-q8_0/README.md", "safetensors/model.safetensors", "safetensors/tokenizer.json"],
)
def test_a_spoilt_file_is_named(copy, name, how):
    spoil(copy / name, how)
    with pytest.raises(ArtefactError, match=rf"{name} has changed"):
        verify_artefacts(copy)
    with pytest.raises(ArtefactError, match=rf"{name} has changed"):
        verify_export(copy / name.partition("/")[0])


def test_a_missing_and_a_new_file_are_named(copy):
    (copy / "safetensors" / "new.bin").write_bytes(b"")
    with pytest.raises(ArtefactError, match=r"new\.bin is not in SHA256SUMS"):
        verify_artefacts(copy)
    (copy / "safetensors" / "new.bin").unlink()
    (copy / GGUF).unlink()
    with pytest.raises(ArtefactError, match=r"model-q8_0\.gguf is missing"):
        verify_artefacts(copy)


def test_a_renamed_file_is_named_twice_over(copy):
    (copy / GGUF).rename(copy / "gguf-q8_0" / "a.gguf")
    with pytest.raises(ArtefactError, match=r"a\.gguf is not in SHA256SUMS"):
        verify_export(copy)


def test_a_link_in_a_files_place_is_named(copy):
    """The bytes are the same today; they are not this folder's."""
    shutil.copy(copy / GGUF, copy.parent / "elsewhere.gguf")
    (copy / GGUF).unlink()
    (copy / GGUF).symlink_to(copy.parent / "elsewhere.gguf")
    with pytest.raises(ArtefactError, match=r"model-q8_0\.gguf is a symbolic link"):
        verify_export(copy)


def test_an_artefact_that_is_gone_or_renamed_is_named(copy):
    (copy / "gguf-q8_0").rename(copy / "gguf-q4_0")
    with pytest.raises(ArtefactError, match="gguf-q8_0 is missing"):
        verify_export(copy)
    with pytest.raises(ArtefactError, match=r"artefact\.json tells of model-q8_0\.gguf in format gguf-q8_0"):
        verify_export(copy / "gguf-q4_0")
    (copy / "gguf-q4_0").rename(copy / "renamed")
    with pytest.raises(ArtefactError, match="renamed is no format of this version"):
        verify_export(copy)


@pytest.mark.parametrize("key", ["key", "format", "model_file"])
def test_a_report_that_was_signed_again_is_no_proof(copy, key):
    path = copy / "gguf-q8_0" / "artefact.json"
    write_json(path, read_json(path) | {key: "other"})
    write_checksums(copy / "gguf-q8_0")
    with pytest.raises(ArtefactError, match=r"gguf-q8_0"):
        verify_artefacts(copy)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "9" * 10_000, '{"format": NaN}', "\udcff"])
@pytest.mark.parametrize("name", ["checks.json", "report.json", "gguf-q8_0/artefact.json", "safetensors/config.json"])
def test_json_that_is_none_is_named(copy, name, text):
    (copy / name).write_bytes(text.encode(errors="surrogateescape"))
    if "/" in name:
        write_checksums(copy / name.partition("/")[0])
    with pytest.raises(ArtefactError, match=name.rpartition("/")[2].replace(".", r"\.")):
        verify_artefacts(copy)


def test_tampered_weights_with_new_checksums_are_found_by_their_divergence(copy):
    """Who rewrites weights and checksums alike is caught by what the model says."""
    path = copy / "safetensors" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"] *= -1
    save_file(weights, path, metadata={"format": "pt"})
    write_checksums(copy / "safetensors")
    with pytest.raises(ArtefactError, match="safetensors"):
        verify_artefacts(copy)


def test_a_gguf_that_brings_its_runtime_down_ends_in_a_message(copy):
    """No layers, says the header: llama.cpp divides by their number, or aborts."""
    data = (copy / GGUF).read_bytes()
    at = data.index(b"llama.block_count") + len(b"llama.block_count") + 4
    (copy / GGUF).write_bytes(data[:at] + struct.pack("<I", 0) + data[at + 4 :])
    write_checksums(copy / "gguf-q8_0")
    with pytest.raises(ArtefactError, match=r"model-q8_0\.gguf is not loaded by llama\.cpp"):
        verify_artefacts(copy)


@pytest.mark.parametrize("header", [b"\xff" * 8, struct.pack("<Q", 2**40), struct.pack("<Q", 2) + b"[]"])
def test_a_safetensors_header_that_lies_is_named(copy, header):
    path = copy / "safetensors" / "model.safetensors"
    path.write_bytes(header + path.read_bytes()[len(header) :])
    write_checksums(copy / "safetensors")
    with pytest.raises(ArtefactError, match=r"model\.safetensors"):
        verify_artefacts(copy)


def test_code_that_comes_with_a_model_is_never_run(copy, tmp_path):
    ran = tmp_path / "ran"
    folder = copy / "safetensors"
    (folder / "modeling_evil.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}})
    write_checksums(folder)
    with pytest.raises(ArtefactError, match=r"config\.json has auto_map"):
        verify_artefacts(copy)
    write_json(folder / "config.json", config)
    write_checksums(folder)
    with pytest.raises(ArtefactError, match=r"modeling_evil\.py is code"):
        verify_artefacts(copy)
    assert not ran.exists()


def test_a_pickle_beside_the_weights_is_refused(copy):
    (copy / "safetensors" / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    write_checksums(copy / "safetensors")
    with pytest.raises(ArtefactError, match=r"pytorch_model\.bin may be a pickle"):
        verify_artefacts(copy)


def test_a_truncated_gguf_with_new_checksums_is_named(copy):
    spoil(copy / GGUF, "truncated")
    write_checksums(copy / "gguf-q8_0")
    with pytest.raises(ArtefactError, match=r"model-q8_0\.gguf"):
        verify_artefacts(copy)


def test_other_prompts_than_the_exports_are_found(copy):
    path = copy / "checks.json"
    path.write_text(path.read_text().replace("flat white", "flat black"))
    with pytest.raises(ArtefactError, match=r"was not made from what checks\.json says"):
        verify_artefacts(copy)


def test_a_gate_is_held_again_and_may_be_narrower(gguf_export):
    with pytest.raises(GateError, match=r"gguf-q8_0 has KL .* nats, export\.max_kl is 1e-12"):
        verify_artefacts(gguf_export, max_kl=1e-12)


def test_one_artefact_is_held_against_the_merged_model_beside_it(copy, monkeypatch):
    monkeypatch.chdir(copy / "gguf-q8_0")
    (report,) = verify_artefacts(Path()).artefacts
    assert (report.format, report.fidelity.kl_nats > 0) == ("gguf-q8_0", True)
    monkeypatch.chdir(copy)
    shutil.rmtree(copy / "safetensors")
    assert [row.format for row in verify_export(copy / "gguf-q8_0").artefacts] == ["gguf-q8_0"]
    with pytest.raises(ArtefactError, match=r"safetensors is missing") as caught:
        verify_artefacts(copy / "gguf-q8_0")
    assert "--checksums-only" in caught.value.fix


def test_artefacts_without_the_record_of_their_checks_say_what_to_do(copy):
    (copy / "checks.json").unlink()
    with pytest.raises(ArtefactError, match=r"checks\.json is missing") as caught:
        verify_artefacts(copy)
    assert "what is finished is kept" in caught.value.fix


def test_where_source_and_teacher_are_gone_the_rest_is_checked(copy, caplog):
    """The merged model is held against itself; the teacher is no part of an export."""
    checks = read_json(copy / "checks.json")
    checks["inputs"]["settings"]["teacher"] = "/nowhere"
    write_json(copy / "checks.json", checks | {"source": "/nowhere"})
    for name in ("safetensors", "gguf-q8_0"):
        path = copy / name / "artefact.json"
        write_json(path, read_json(path) | {"key": read_checks(copy).key(name)})
        write_checksums(copy / name)
    assert verify_artefacts(copy).artefacts[0].fidelity.kl_nats == 0.0
    assert "/nowhere is gone or has changed" in caplog.text
    assert "KL to the teacher is not measured" in caplog.text


def test_a_folder_without_artefacts_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="holds no artefacts"):
        verify_artefacts(tmp_path)


def test_the_same_export_gives_the_same_bytes(gguf_export, export_gguf, tmp_path):
    """Weights, tokenizer, GGUF, Modelfile and lock, elsewhere and under another umask; reports hold measured times."""
    before = os.umask(0o077)
    try:
        again = export_gguf(tmp_path / "again" / "deeper")
    finally:
        os.umask(before)
    names = [{path.relative_to(folder) for path in folder.rglob("*")} for folder in (gguf_export, again)]
    assert names[0] == names[1]
    files = {path.relative_to(gguf_export) for path in gguf_export.rglob("*") if path.is_file()}
    measured = {"README.md", "artefact.json", "report.json", "report.html", "SHA256SUMS"}
    fixed = {path for path in files if path.name not in measured}
    assert {"model.safetensors", "tokenizer.json", "model-q8_0.gguf", "Modelfile", "export.lock.json"} <= {
        path.name for path in fixed
    }
    assert [str(path) for path in fixed if (gguf_export / path).read_bytes() != (again / path).read_bytes()] == []
