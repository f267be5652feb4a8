"""MT-Bench's score read from judges' words by the strict contract, as a module of the `evaluate` library.

    metric = evaluate.load("eval/metrics/mt_bench_score.py")
    metric.compute(predictions=["... Rating: [[7]]", ...], references=[81, ...])

The library's import scanner reads imports line by line: none may stand in parentheses.
"""

from collections.abc import Sequence

import datasets
import evaluate

from distill.errors import DataError
from eval.intervals import clustered_interval
from eval.mt_bench.verdicts import HIGHEST_SCORE, LOWEST_SCORE, read_score

DESCRIPTION = "Mean score from 1 to 10 in judges' replies; replies without one are counted and bound the mean."
INPUTS = """
Args:
    predictions: a judge's replies, one for each judged turn.
    references: for each reply, the id of its question: replies of one question are resampled together.
    seed: of the bootstrap; 0 by default.

Returns:
    mt_bench_score: mean over the replies with a score; mt_bench_low and mt_bench_high: its 95 % interval.
    mt_bench_unscored: share of replies without a score.
    mt_bench_if_lowest, mt_bench_if_highest: the mean, were all of those 1 or 10.
"""


class MtBenchScore(evaluate.Metric):  # type: ignore[misc]
    """MT-Bench's mean with the interface of `evaluate.Metric`."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="arXiv:2306.05685", inputs_description=INPUTS, features=features
        )

    def _compute(self, *, predictions: Sequence[str], references: Sequence[int], seed: int = 0) -> dict[str, float]:
        by_question: dict[int, list[float]] = {}
        for reply, question in zip(predictions, references, strict=True):
            score = read_score(reply).score
            if score is not None:
                by_question.setdefault(question, []).append(score)
        scores = [score for own in by_question.values() for score in own]
        if not scores:
            raise DataError(f"none of {len(predictions)} replies holds a score", why="there is nothing to average")
        found = clustered_interval(list(by_question.values()), seed=seed, scale=(LOWEST_SCORE, HIGHEST_SCORE))
        num_open = len(predictions) - len(scores)
        return {
            "mt_bench_score": found.mean,
            "mt_bench_low": found.low,
            "mt_bench_high": found.high,
            "mt_bench_unscored": num_open / len(predictions),
            "mt_bench_if_lowest": (sum(scores) + LOWEST_SCORE * num_open) / len(predictions),
            "mt_bench_if_highest": (sum(scores) + HIGHEST_SCORE * num_open) / len(predictions),
        }
