"""Stage `harmlessness`: the student before and after its preference training, on provoking and on ordinary prompts."""

from pathlib import Path

from distill.data import read_conversations
from distill.decoding import TransformersGenerator
from distill.files import read_json, write_json, write_text
from distill.models import load_model
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.sft import load_start
from distill.preference.instruction_fates import KEPT, REASONS
from eval.harmlessness import AFTER, BEFORE, exam_turns, harmlessness_figures
from eval.scores import proportion_interval

RESULTS_NAME, TABLE_NAME = "results.json", "results.md"


def run_harmlessness(run: RunFolder) -> dict[str, object]:
    """Writes `results.json` and `results.md`."""
    settings = run.recipe.harmlessness
    assert settings is not None
    turns = exam_turns(settings, read_conversations(run.conversations("test")))
    student = run.recipe.student
    after = load_model(Path(run.final_source), dtype=student.dtype, device=student.device)
    students = {BEFORE: TransformersGenerator(load_start(run)), AFTER: TransformersGenerator(after)}
    figures = harmlessness_figures(students, turns, settings, seed=run.recipe.seed)
    if run.recipe.safer_instruct is not None:
        figures = figures.model_copy(update=told_of_pairs(run))
    folder = run.stage("harmlessness")
    write_json(folder / RESULTS_NAME, figures.model_dump(mode="json"))
    write_text(folder / TABLE_NAME, figures.to_markdown())
    return {row.name: f"{100 * row.before.mean:.1f} -> {100 * row.after.mean:.1f} %" for row in figures.rows}


def told_of_pairs(run: RunFolder) -> dict[str, object]:
    """What stage `safer_instruct` says of its texts and of its judge."""
    report = read_json(run.stage("safer_instruct") / "report.json")
    fates = {reason: int(str(report[f"num_{reason}_dropped"])) for reason in REASONS}
    accuracy, number = report.get("judge_accuracy"), report.get("num_judge_held_out")
    judge = None
    if isinstance(accuracy, float) and isinstance(number, int):
        judge = proportion_interval(round(accuracy * number), number)
    return {"fates": {**fates, KEPT: int(str(report["num_pairs"]))}, "judge": judge}
