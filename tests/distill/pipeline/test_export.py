from pathlib import Path

import pytest

from distill.errors import RecipeError
from distill.export import verify_export
from distill.pipeline.export import run_export
from distill.pipeline.manifest import read_manifest
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder


def test_the_artefacts_are_whole_and_stand_in_the_summary(finished: RunFolder):
    report = verify_export(finished.stage("export"))
    assert [artefact.format for artefact in report.artefacts] == ["safetensors"]
    assert report.artefacts[0].fidelity.kl_nats < 1e-6
    assert list(read_manifest(finished.stage("export")).summary) == ["safetensors"]


def test_the_cards_say_where_the_student_comes_from(finished: RunFolder):
    """Names, not paths: nobody else has this machine's folders."""
    for folder in (finished.stage("export"), finished.stage("export") / "safetensors"):
        card = (folder / "README.md").read_text()
        assert "| teacher | " in card
        assert "| student before | " in card
        assert "| objective | " in card
        assert str(finished.output) not in card


def test_a_student_of_the_hub_that_nothing_trained_is_not_exported(tiny_recipe: Path, tmp_path: Path):
    overrides = ["train=null", "cache=null", "pairs=null", "student.path=owner/name"]
    run = RunFolder(load_recipe(tiny_recipe, overrides), tmp_path)
    with pytest.raises(RecipeError, match="export takes a model folder, not the hub id owner/name"):
        run_export(run)
