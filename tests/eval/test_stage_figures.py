"""Figures of stages, told apart by their format."""

from pathlib import Path

import pytest

from distill.errors import RecipeError
from distill.files import write_json
from eval.stage_figures import read_stage_figures
from eval.steering_figures import SteeringFigures
from tests.eval.f_dpg_rows import figures_of


def test_each_stages_figures_read_back(tmp_path: Path):
    for number, figures in enumerate((figures_of("alpha"), SteeringFigures(described="One way", arms=()))):
        path = tmp_path / f"{number}.json"
        write_json(path, figures.model_dump(mode="json"))
        found = read_stage_figures(path)
        assert found == figures
        assert found.described
        assert found.tables()


def test_figures_of_no_stage_are_refused(tmp_path: Path):
    write_json(tmp_path / "results.json", {"format": "else"})
    with pytest.raises(RecipeError, match="else"):
        read_stage_figures(tmp_path / "results.json")
