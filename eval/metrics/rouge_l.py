"""ROUGE-L as a module of the `evaluate` library that needs no hub; `evaluate.load("rouge")` does.

    metric = evaluate.load("eval/metrics/rouge_l.py")
    metric.compute(predictions=answers, references=expected)

It needs `rouge_score` (extra `text-metrics`).
The library's import scanner reads imports line by line: none may stand in parentheses.
"""

from collections.abc import Sequence

import datasets
import evaluate
from rouge_score import rouge_scorer

DESCRIPTION = "ROUGE-L: F1 of the longest common subsequence of words, mean over answers."
INPUTS = """
Args:
    predictions: answers.
    references: the expected answer of each.
    use_stemmer: whether endings are cut off English words first; false by default.

Returns:
    rouge_l: mean F1, in [0, 1].
"""
CITATION = "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, sec. 3.1"


class RougeL(evaluate.Metric):  # type: ignore[misc]
    """ROUGE-L with the interface of `evaluate.Metric`."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, inputs_description=INPUTS, features=features
        )

    def _compute(
        self, *, predictions: Sequence[str], references: Sequence[str], use_stemmer: bool = False
    ) -> dict[str, float]:
        scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=use_stemmer)
        pairs = zip(predictions, references, strict=True)
        scores = [scorer.score(expected, answer)["rougeL"].fmeasure for answer, expected in pairs]
        return {"rouge_l": float(sum(scores) / len(scores))}
