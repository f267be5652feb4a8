from pathlib import Path

from distill.pipeline.manifest import (
    StageManifest,
    clear_stage,
    library_versions,
    now,
    read_manifest,
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
