import json
import shutil

import pytest

from distill.cli_package import push_folder, require_own_options, verify_folder
from distill.errors import ArtefactError, RecipeError
from distill.export.checksums import write_checksums
from distill.export.formats import FORMATS
from distill.export.report import ARTEFACT, ArtefactReport
from distill.export.smoke import SmokeReport
from distill.files import write_json


@pytest.fixture
def export(tmp_path):
    """A folder as an export leaves it, as far as bytes go."""
    for name in ("safetensors", "gguf-q8_0"):
        row = FORMATS[name]
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.gguf").write_bytes(b"w")
        smoke = SmokeReport(row.runtime, 1, 2, 1, 1, 1)
        report = ArtefactReport(
            format=name, key="k", model_file=row.model_file, size_bytes=1, details={}, fidelity=None, smoke=smoke
        )
        write_json(tmp_path / name / ARTEFACT, report.model_dump(mode="json"))
        write_checksums(tmp_path / name)
    write_json(tmp_path / "report.json", {"safetensors": {}, "gguf-q8_0": {}})
    return tmp_path


def verify(folder, **options):
    values = {"checksums_only": True, "max_kl": None, "min_top1": None, "as_json": True}
    verify_folder([str(folder)], **{**values, **options})


def test_bytes_alone_are_verified_without_a_model(export, capsys):
    verify(export)
    assert [row["format"] for row in json.loads(capsys.readouterr().out)] == ["safetensors", "gguf-q8_0"]
    verify(export / "gguf-q8_0", as_json=False)
    assert "nothing loaded" in capsys.readouterr().out


def test_a_damaged_file_is_named_and_ends_in_two(export):
    (export / "gguf-q8_0" / "weights.gguf").write_bytes(b"v")
    with pytest.raises(ArtefactError, match=r"gguf-q8_0/weights\.gguf has changed") as caught:
        verify(export)
    assert caught.value.exit_code == 2


def test_the_whole_verification_misses_the_record_of_the_checks(export):
    with pytest.raises(ArtefactError, match=r"checks\.json is missing"):
        verify(export, checksums_only=False)


def test_a_folder_that_is_gone_is_missed(export):
    shutil.rmtree(export / "gguf-q8_0")
    with pytest.raises(ArtefactError, match="gguf-q8_0 is missing"):
        verify(export)


def test_a_gate_needs_a_measurement(export):
    with pytest.raises(RecipeError, match="--min-top1 and --checksums-only are both given"):
        verify(export, min_top1=0.9)


@pytest.mark.parametrize("gate", [{"max_kl": -1.0}, {"min_top1": 1.5}])
def test_a_gate_out_of_range_is_refused(export, gate):
    with pytest.raises(RecipeError, match=rf"verify: {next(iter(gate))} is"):
        verify(export, checksums_only=False, **gate)


@pytest.mark.parametrize("words", [None, [], ["a", "b"]])
def test_verify_takes_one_folder(words):
    with pytest.raises(RecipeError, match="export verify takes one folder, not"):
        verify_folder(words, checksums_only=True, max_kl=None, min_top1=None, as_json=False)


@pytest.mark.parametrize("words", [None, ["a"], ["a", "b/c", "d"]])
def test_push_takes_a_folder_and_a_repository(words):
    with pytest.raises(RecipeError, match="export push takes a folder and a repository, not"):
        push_folder(words, yes=False, public=False, as_json=False)


@pytest.mark.parametrize(
    ("target", "option", "owner"),
    [
        ("verify", "--yes", "push"),
        ("push", "--checksums-only", "verify"),
        ("verify", "--formats", "MODEL"),
        ("MODEL", "--public", "push"),
        ("RECIPE", "--yes", "push"),
    ],
)
def test_an_option_of_another_use_is_refused(target, option, owner):
    require_own_options(target, {option: None})
    with pytest.raises(RecipeError, match=f"{option} does not go with export {target}") as caught:
        require_own_options(target, {option: True})
    assert f"distill export {owner}" in caught.value.fix
