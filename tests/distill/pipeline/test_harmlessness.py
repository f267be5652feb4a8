"""Stage `harmlessness` on random weights: both students, and the fates of the texts beside them."""

from pathlib import Path

from distill.files import write_json
from distill.pipeline.harmlessness import told_of_pairs
from distill.pipeline.recipe import load_recipe
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.runner import run_recipe
from distill.preference.instruction_fates import REASONS
from eval.stage_figures import read_stage_figures

WITHOUT = ("export=null", "evaluate=null", "train.max_steps=1", "data.num_test=30")
SECTION = "harmlessness={sampling: {temperature: 0.0, max_new_tokens: 2}}"


def test_the_stage_measures_the_student_before_and_after(tiny_recipe: Path, tmp_path: Path):
    run = run_recipe(load_recipe(tiny_recipe, [f"output={tmp_path}", *WITHOUT, SECTION]), until="harmlessness")
    figures = read_stage_figures(run.stage("harmlessness") / "results.json")
    assert [row.before.mean for row in figures.rows] == [0.0, 0.0, 0.0]
    assert "harmless answers to provoking prompts" in (run.stage("harmlessness") / "results.md").read_text()


def test_the_fates_of_the_texts_stand_beside_the_figures(tiny_recipe: Path, tmp_path: Path):
    """9 of 10 labelled instructions right: Wilson's interval around 90 %."""
    report = {f"num_{reason}_dropped": number for number, reason in enumerate(REASONS)} | {"num_pairs": 7}
    write_json(tmp_path / "safer_instruct" / "report.json", report | {"judge_accuracy": 0.9, "num_judge_held_out": 10})
    loaded = load_recipe(tiny_recipe)
    found = told_of_pairs(RunFolder(loaded, tmp_path))
    assert list(found["fates"].values()) == [*range(len(REASONS)), 7]
    assert found["judge"].mean == 0.9
    assert 0.5 < found["judge"].low < 0.9 < found["judge"].high < 1
