"""Figures of the stages that measure by themselves, read back by their format."""

from pathlib import Path

from pydantic import Field

from distill.files import read_json
from distill.settings import Settings, validated
from eval.energy_figures import EnergyFigures
from eval.f_dpg_figures import FDpgFigures
from eval.harmlessness_figures import HarmlessnessFigures
from eval.steering_figures import SteeringFigures

StageFigures = EnergyFigures | FDpgFigures | HarmlessnessFigures | SteeringFigures
"""Each says in `described` what was measured, and has `tables()`, rows by heading, by what they are about."""


class _Read(Settings):
    figures: StageFigures = Field(discriminator="format")


def read_stage_figures(path: Path) -> StageFigures:
    """Reads a stage's `results.json`.

    Raises:
        DataError: the file is missing or not JSON.
        RecipeError: it holds the figures of no known stage.
    """
    return validated(_Read, {"figures": read_json(path)}, source=str(path)).figures
