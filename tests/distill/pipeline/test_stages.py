from pathlib import Path

import pytest

from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.stages import STAGES, inputs_of, stages_of

NOT_IN_IT = {"sft", "f_dpg", "linear_alignment", "reward", "safer_instruct", "harmlessness"}
"""Stages that the tiny recipe does not turn on."""


def _run(recipe: Path, *overrides: str) -> RunFolder:
    loaded = load_recipe(recipe, list(overrides))
    return RunFolder(loaded, loaded.recipe.output)


def test_a_stage_needs_only_stages_before_it():
    names = list(STAGES)
    assert all(names.index(need) < names.index(name) for name, stage in STAGES.items() for need in stage.needs)


def test_the_sections_of_a_recipe_turn_stages_on(tiny_recipe: Path):
    assert stages_of(_run(tiny_recipe)) == ["prepare", "pairs", "cache", "train", "export", "evaluate", "report"]
    assert "evaluate" not in stages_of(_run(tiny_recipe, "evaluate=null"))


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("train.learning_rate=2.0e-3", {"train", "export", "evaluate", "report"}),
        ("pairs.turn=all", {"pairs", "cache", "train", "export", "evaluate", "report"}),
        ("evaluate.num_conversations=1", {"evaluate", "report"}),
        ("seed=1", set(STAGES) - NOT_IN_IT),
        ("description=Other words.", set()),
        ("student.device=cpu", set()),
        ("train.save_every_steps=5", set()),
    ],
)
def test_a_setting_changes_its_stage_and_what_stands_on_it(tiny_recipe: Path, override: str, changed: set[str]):
    before, after = _run(tiny_recipe), _run(tiny_recipe, override)
    assert {name for name in stages_of(before) if inputs_of(before, name) != inputs_of(after, name)} == changed
