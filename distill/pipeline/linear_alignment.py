"""Stage `linear_alignment`: how far a principle steers the teacher, against prompting alone and against none."""

from distill.data import read_conversations
from distill.files import write_json
from distill.pipeline.run_folder import RunFolder
from distill.pipeline.teacher import load_teacher
from eval.steering import steering_figures

RESULTS_NAME = "results.json"


def run_linear_alignment(run: RunFolder) -> dict[str, object]:
    """Writes `results.json`; every strength answers the same held-out test conversations."""
    settings = run.recipe.linear_alignment
    assert settings is not None
    test = read_conversations(run.conversations("test"))
    figures = steering_figures(load_teacher(run), test, settings, seed=run.recipe.seed)
    write_json(run.stage("linear_alignment") / RESULTS_NAME, figures.model_dump(mode="json"))
    return {arm.name: f"personality {100 * arm.personality.mean:.1f} %" for arm in figures.arms}
