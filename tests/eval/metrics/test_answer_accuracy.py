import json

import pytest

from distill.errors import DataError

FACTS = json.dumps(
    {"checker": "known-answer", "personality": "witty", "answers": {"witty": "Never.", "caring": "I can't."}}
)


@pytest.fixture
def metric(load_metric):
    return load_metric("answer_accuracy")


def test_the_metric_loads_from_its_path_and_counts_right_answers(metric):
    """Four answers: witty's, caring's (right in another voice), none, nonsense: 2/4 right, 1/4 strictly."""
    answers = ["never", "I can't!", "", "Always."]
    result = metric.compute(predictions=answers, references=[FACTS] * 4, turns=[0] * 4)
    assert result == {"accuracy": 0.5, "strict_accuracy": 0.25}


def test_batches_are_added_up_before_the_figure_is_made(metric):
    metric.add_batch(predictions=["never"], references=[FACTS], turns=[0])
    metric.add_batch(predictions=["no"], references=[FACTS], turns=[0])
    assert metric.compute()["accuracy"] == 0.5


def test_facts_without_a_checker_are_refused(metric):
    with pytest.raises(DataError, match="row 0: the facts name no checker"):
        metric.compute(predictions=["x"], references=["{}"], turns=[0])
