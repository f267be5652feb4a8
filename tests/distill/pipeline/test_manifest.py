from pathlib import Path

import pytest

from distill.errors import RecipeError
from distill.pipeline.manifest import (
    StageManifest,
    clear_stage,
    library_versions,
    now,
    read_manifest,
    refuse_foreign,
    write_manifest,
)


def _manifest() -> StageManifest:
    return StageManifest(
        stage="sft",
        fingerprint="f",
        status="running",
        inputs={"data": "d"},
        settings={},
        seed=0,
        versions=library_versions(),
        started=now(),
    )


def test_a_manifest_reads_back_as_written(tmp_path: Path):
    write_manifest(tmp_path, _manifest())
    assert read_manifest(tmp_path) == _manifest().model_copy(update={"started": read_manifest(tmp_path).started})


def test_a_stage_that_never_started_has_no_manifest(tmp_path: Path):
    assert read_manifest(tmp_path) is None


def test_a_cleared_stage_leaves_nothing(tmp_path: Path):
    write_manifest(tmp_path / "sft", _manifest())
    clear_stage(tmp_path / "sft")
    assert not (tmp_path / "sft").exists()


def test_versions_name_the_libraries_that_shape_results():
    versions = library_versions()
    assert {"distill", "python", "torch", "transformers", "deepspeed"} <= versions.keys()
    assert versions["torch"] != "absent"


def test_clearing_takes_along_what_a_crash_left(tmp_path: Path):
    (tmp_path / ".sft.0123abcd.cleared" / "checkpoints").mkdir(parents=True)
    write_manifest(tmp_path / "sft", _manifest())
    clear_stage(tmp_path / "sft")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_stage_is_not_cleared(tmp_path: Path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "thesis.tex").touch()
    with pytest.raises(RecipeError, match=r"in the way .*: it holds thesis\.tex, and no manifest of a stage"):
        clear_stage(tmp_path / "export")
    assert (tmp_path / "export" / "thesis.tex").exists()


def test_a_file_in_place_of_a_stage_is_refused(tmp_path: Path):
    (tmp_path / "export").touch()
    with pytest.raises(RecipeError, match="it is a file"):
        refuse_foreign(tmp_path / "export")


@pytest.mark.parametrize(("text", "words"), [('{"name": "app"}', "is not the manifest of a stage"), ("{", "not JSON")])
def test_a_manifest_of_something_else_is_refused(tmp_path: Path, text: str, words: str):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RecipeError, match=words):
        read_manifest(tmp_path)


def test_a_stage_that_crashed_before_its_first_manifest_is_no_foreign_folder(tmp_path: Path):
    refuse_foreign(tmp_path / "nowhere")
    (tmp_path / ".manifest.json.0123abcd.partial").touch()
    refuse_foreign(tmp_path)
