import json

import pytest

from distill.errors import DataError

FACTS = json.dumps({"personality": "witty", "answers": {"witty": "Never.", "caring": "I can't."}})


def test_the_scenarios_answer_counts_in_any_voice_and_the_personalitys_in_its_own(load_metric):
    """Witty's, caring's, none: 2/3 the scenario's, 1/3 the personality's."""
    result = load_metric("scenario_accuracy").compute(predictions=["never", "I can't!", "x"], references=[FACTS] * 3)
    assert result == {"scenario_accuracy": pytest.approx(2 / 3), "personality_accuracy": pytest.approx(1 / 3)}


def test_a_reference_without_answers_is_refused(load_metric):
    with pytest.raises(DataError, match="row 0: the reference lacks personality or answers"):
        load_metric("scenario_accuracy").compute(predictions=["x"], references=["{}"])
