from pathlib import Path

import pytest

from distill.errors import RecipeError
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.stages import inputs_of

RECIPE = """
output: run
teacher: {path: owner/name, chat_template: own.jinja}
student: {path: owner/small, chat_template: own.jinja}
data: {source: embedded, num_teacher: 0, num_prompts: 2, num_labelled: 0, num_valid: 2, num_test: 2}
sft: {objective: {name: sft}, learning_rate: 1.0e-3, max_steps: 2, global_batch_size: 2, micro_batch_size: 2}
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    (tmp_path / "own.jinja").write_text("one")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return RunFolder(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run")


def test_a_chat_template_stands_beside_the_recipe(run: RunFolder, tmp_path: Path):
    assert run.chat_template(run.recipe.student) == tmp_path / "own.jinja"


def test_a_missing_chat_template_is_named(run: RunFolder, tmp_path: Path):
    (tmp_path / "own.jinja").unlink()
    with pytest.raises(RecipeError, match=r"chat_template .*own\.jinja does not exist"):
        run.chat_template(run.recipe.student)


def test_a_stage_is_made_from_what_its_templates_say_and_not_from_where_they_lie(run: RunFolder, tmp_path: Path):
    before = inputs_of(run, "sft")
    (tmp_path / "moved.jinja").write_text("one")
    names = ["teacher.chat_template=moved.jinja", "student.chat_template=moved.jinja"]
    moved = RunFolder(load_recipe(tmp_path / "recipe.yaml", names), run.output)
    assert inputs_of(moved, "sft") == before
    (tmp_path / "moved.jinja").write_text("other")
    later = RunFolder(moved.loaded, run.output)
    changed = {name for name, value in inputs_of(later, "sft").items() if value != before[name]}
    assert changed == {"teacher", "student_weights"}
