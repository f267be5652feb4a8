"""Stage `f_dpg` on random weights: models, table, and what it asks of recipe and data."""

from pathlib import Path

import pytest

from distill.data import Conversation, Message
from distill.errors import RecipeError
from distill.pipeline.evaluate import _candidates
from distill.pipeline.f_dpg import PICTURE_NAME, RESULTS_NAME, first_question, without_doubles
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import run_recipe
from eval.f_dpg_figures import read_f_dpg

WITHOUT = ("pairs=null", "cache=null", "train=null", "export=null", "evaluate=null", "teacher=null")
SECTION = (
    "f_dpg={target: {moments: [{feature: {name: contains, value: e}, mean: 0.5}]}, divergences: [alpha, forward_kl],"
    " learning_rate: 1.0e-3, max_steps: 1, global_batch_size: 2, num_samples: 8, max_new_tokens: 6,"
    " num_fit_samples: 64, num_measured_prompts: 2, num_measured_samples: 4, max_length_tokens: 1024,"
    " keeps_system: false}"
)


@pytest.mark.slow
def test_the_stage_trains_along_each_divergence_and_measures_all(tiny_recipe: Path, tmp_path: Path):
    loaded = load_recipe(tiny_recipe, [*WITHOUT, SECTION, f"output={tmp_path / 'run'}"])
    run = run_recipe(loaded)
    figures = read_f_dpg(run.stage("f_dpg") / RESULTS_NAME)
    assert [row.model for row in figures.rows] == ["start", "alpha", "forward_kl"]
    assert figures.rows[0].kl_to_start.mean == pytest.approx(0.0, abs=1e-3)
    assert [(curve.model, curve.steps) for curve in figures.curves] == [("alpha", (1,)), ("forward_kl", (1,))]
    assert figures.wanted == {"contains e": 0.5}
    assert "<svg" in (run.stage("f_dpg") / PICTURE_NAME).read_text()
    assert Path(run.final_source) == run.stage("f_dpg") / "alpha" / "model"
    assert (Path(run.final_source) / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((SECTION,), "f_dpg and train both make the run's last student"),
        ((*WITHOUT, SECTION, "f_dpg.target.beta_teacher=1.0"), "the recipe has no teacher"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(tiny_recipe: Path, overrides: tuple[str, ...], message: str):
    with pytest.raises(RecipeError, match=message):
        load_recipe(tiny_recipe, list(overrides))


def test_a_prompt_is_the_first_question_with_or_without_its_system_message():
    dialogue = Conversation("a", (Message("system", "Be brisk."), Message("user", "Tea?"), Message("user", "Now?")))
    assert first_question(dialogue, keeps_system=True).messages == dialogue.messages[:2]
    assert first_question(dialogue, keeps_system=False).messages == dialogue.messages[1:2]


def test_each_prompt_is_asked_once_the_first_of_its_kind():
    rows = [Conversation(name, (Message("user", text),)) for name, text in (("a", "Tea?"), ("b", "Tea?"), ("c", "Hi!"))]
    assert [row.id for row in without_doubles(rows)] == ["a", "c"]


def test_every_divergences_student_is_evaluated(tiny_recipe: Path):
    run = RunFolder(load_recipe(tiny_recipe, [*WITHOUT[:-2], "teacher=null", SECTION]), tiny_recipe.parent)
    found = {candidate.name: candidate.source for candidate in _candidates(run)}
    assert found["student after f-DPG alpha"] == run.stage("f_dpg") / "alpha" / "model"
    assert found["student after f-DPG forward_kl"] == run.stage("f_dpg") / "forward_kl" / "model"


def test_the_run_ends_with_the_first_divergences_student(tiny_recipe: Path):
    loaded = load_recipe(tiny_recipe, [*WITHOUT, SECTION])
    run = RunFolder(loaded, loaded.recipe.output)
    assert run.final_source == run.stage("f_dpg") / "alpha" / "model"
