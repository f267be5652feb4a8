import json
from pathlib import Path

import pytest

from distill.errors import CacheError, RecipeError
from distill.pipeline.cache_sources import SOURCES_NAME, read_sources, write_sources
from distill.teacher_cache import TeacherSource


def test_a_hub_id_is_kept_and_a_folder_is_known_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "models" / "own").mkdir(parents=True)
    (tmp_path / "run" / "cache").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    scorers = {"teacher": TeacherSource("models/own"), "reference": TeacherSource("owner/name", revision="v2")}
    write_sources(Path("run/cache"), scorers)
    monkeypatch.chdir(tmp_path / "models")
    found = read_sources(tmp_path / "run" / "cache")
    assert found.teacher == TeacherSource(str(tmp_path / "models" / "own"))
    assert found.reference == scorers["reference"]
    assert found.served_teacher is None


def test_a_model_inside_the_run_moves_with_it(tmp_path: Path):
    model = tmp_path / "run" / "sft" / "model"
    model.mkdir(parents=True)
    (tmp_path / "run" / "cache").mkdir()
    write_sources(tmp_path / "run" / "cache", {"reference": TeacherSource(str(model))})
    (tmp_path / "run").rename(tmp_path / "moved")
    found = read_sources(tmp_path / "moved" / "cache")
    assert found.reference == TeacherSource(str(tmp_path / "moved" / "sft" / "model"))
    assert found.teacher is None


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path: Path):
    with pytest.raises(CacheError, match=rf"do not say where their models are: .*{SOURCES_NAME} does not exist\nwhy: "):
        read_sources(tmp_path)
    (tmp_path / SOURCES_NAME).write_text("{")
    with pytest.raises(CacheError, match=rf"{SOURCES_NAME} is not JSON"):
        read_sources(tmp_path)
    (tmp_path / SOURCES_NAME).write_text(json.dumps({"reference": {"model": 3}}))
    with pytest.raises(RecipeError, match=rf"{SOURCES_NAME}: reference is 3"):
        read_sources(tmp_path)
