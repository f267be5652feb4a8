"""chrF as a module of the `evaluate` library that needs no hub; `evaluate.load("chrf")` does.

    metric = evaluate.load("eval/metrics/chrf.py")
    metric.compute(predictions=answers, references=expected)

It needs `sacrebleu` (extra `text-metrics`).
The library's import scanner reads imports line by line: none may stand in parentheses.
"""

from collections.abc import Sequence

import datasets
import evaluate
import sacrebleu

DESCRIPTION = "chrF2: F-score of character n-grams up to six over the whole corpus."
INPUTS = """
Args:
    predictions: answers.
    references: the expected answer of each.

Returns:
    chrf: the score, in [0, 100].
"""
CITATION = "Popovic 2015, chrF: character n-gram F-score for automatic MT evaluation"


class Chrf(evaluate.Metric):  # type: ignore[misc]
    """chrF with the interface of `evaluate.Metric`."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        features = datasets.Features({"predictions": text, "references": text})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation=CITATION, inputs_description=INPUTS, features=features
        )

    def _compute(self, *, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        return {"chrf": float(sacrebleu.corpus_chrf(list(predictions), [list(references)]).score)}
