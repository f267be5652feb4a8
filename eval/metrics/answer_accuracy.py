"""Accuracy of answers by the checker that their facts name, as a module of the `evaluate` library.

    metric = evaluate.load("eval/metrics/answer_accuracy.py")
    metric.compute(predictions=answers, references=[json.dumps(facts) for facts in ...], turns=[0, 1, ...])

The library's import scanner reads imports line by line: none may stand in parentheses.
"""

import json
from collections.abc import Sequence

import datasets
import evaluate

from distill.data.records import Conversation, Message
from distill.errors import DataError
from eval.checkers import checker_for

DESCRIPTION = "Share of answers that an objective checker finds right; no language model judges."
INPUTS = """
Args:
    predictions: answers.
    references: for each answer, the facts of its conversation as JSON text; facts["checker"] names the checker.
    turns: for each answer, which assistant turn it is, from 0.

Returns:
    accuracy: share of right answers.
    strict_accuracy: share of answers with no reason against them.
"""


class AnswerAccuracy(evaluate.Metric):  # type: ignore[misc]
    """Checker accuracy with the interface of `evaluate.Metric`."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text, "turns": datasets.Value("int32")})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features, format="python"
        )

    def _compute(
        self, *, predictions: Sequence[str], references: Sequence[str], turns: Sequence[int]
    ) -> dict[str, float]:
        verdicts = []
        for number, (answer, reference, turn) in enumerate(zip(predictions, references, turns, strict=True)):
            conversation = Conversation(f"row {number}", (Message("user", ""),), json.loads(reference))
            checker = checker_for(conversation)
            if checker is None:
                raise DataError(f"row {number}: the facts name no checker", why="its answer cannot be judged")
            verdicts.append(checker.check(conversation, turn, answer))
        return {
            "accuracy": sum(verdict.is_right for verdict in verdicts) / len(verdicts),
            "strict_accuracy": sum(verdict.is_right and not verdict.reasons for verdict in verdicts) / len(verdicts),
        }
