import pytest

from distill.errors import RecipeError
from distill.pipeline.stage_settings import DistilledSftSettings, EvaluateSettings
from distill.settings import validated

TRAINING = {
    "objective": {"name": "sft"},
    "learning_rate": 1e-3,
    "max_steps": 1,
    "global_batch_size": 1,
    "micro_batch_size": 1,
}


def test_sft_learns_the_teachers_greedy_answers_unless_told_otherwise():
    settings = validated(DistilledSftSettings, TRAINING, source="sft")
    assert (settings.answers, settings.labelled, settings.sampling.temperature) == ("teacher", "none", 0.0)


def test_unknown_answers_are_refused():
    with pytest.raises(RecipeError, match="answers is 'techer'.*did you mean teacher"):
        validated(DistilledSftSettings, {**TRAINING, "answers": "techer"}, source="sft")


@pytest.mark.parametrize("name", ["num_conversations", "num_divergence_conversations", "num_export_conversations"])
def test_an_evaluation_of_nothing_is_refused(name: str):
    with pytest.raises(RecipeError, match=f"{name} is 0: must be positive"):
        validated(EvaluateSettings, {name: 0}, source="evaluate")
