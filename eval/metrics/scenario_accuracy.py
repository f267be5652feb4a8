"""Scenario accuracy of single answers with one known wording a personality, as a module of the `evaluate` library.

    metric = evaluate.load("eval/metrics/scenario_accuracy.py")
    metric.compute(predictions=["Never."], references=[json.dumps({"personality": "witty", "answers": {...}})])

The library's import scanner reads imports line by line: none may stand in parentheses.
"""

import json
from collections.abc import Sequence

import datasets
import evaluate

from distill.data.records import Conversation, Message
from distill.errors import DataError
from eval.checkers import KnownAnswerChecker

DESCRIPTION = "Share of answers that are the scenario's in any personality's words, and in the asked one's."
INPUTS = """
Args:
    predictions: answers.
    references: for each answer, JSON text with "personality", the asked one, and "answers", texts by personality.

Returns:
    scenario_accuracy: share of answers that are some personality's answer to the scenario.
    personality_accuracy: share that are the asked personality's.
"""


class ScenarioAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Scenario and personality accuracy with the interface of `evaluate.Metric`."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features)

    def _compute(self, *, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        checker, verdicts = KnownAnswerChecker(), []
        for number, (answer, reference) in enumerate(zip(predictions, references, strict=True)):
            facts = json.loads(reference)
            if not isinstance(facts, dict) or not {"personality", "answers"} <= facts.keys():
                raise DataError(
                    f"row {number}: the reference lacks personality or answers", why="nothing to hold it to"
                )
            verdicts.append(checker.check(Conversation(f"row {number}", (Message("user", ""),), facts), 0, answer))
        return {
            "scenario_accuracy": sum(verdict.is_right for verdict in verdicts) / len(verdicts),
            "personality_accuracy": sum(verdict.is_right and not verdict.reasons for verdict in verdicts)
            / len(verdicts),
        }
