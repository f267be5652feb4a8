"""daDPO's preference rate, wins less losses of a student against its teacher, as a module of the `evaluate` library.

    metric = evaluate.load("eval/metrics/preference_rate.py")
    metric.compute(predictions=[1.0, 0.5, 0.0], references=[81, 81, 82])

The library's import scanner reads imports line by line: none may stand in parentheses.
"""

from collections.abc import Sequence

import datasets
import evaluate

from distill.errors import DataError
from eval.win_rate import win_rate

DESCRIPTION = "Share of wins less share of losses of one model against another, with an interval by question."
INPUTS = """
Args:
    predictions: outcome of each comparison: 1 for a win, 0.5 for a tie, 0 for a loss; between them, a mean of verdicts.
    references: for each comparison, the id of its question: comparisons of one question are resampled together.
    seed: of the bootstrap; 0 by default.

Returns:
    preference_rate: wins less losses over comparisons, in [-1, 1]; preference_rate_low and preference_rate_high:
        its 95 % interval.
    preference_win_rate: wins and half the ties over comparisons.
"""


class PreferenceRate(evaluate.Metric):  # type: ignore[misc]
    """Preference rate with the interface of `evaluate.Metric`."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("int64")})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="arXiv:2506.15717", inputs_description=INPUTS, features=features
        )

    def _compute(self, *, predictions: Sequence[float], references: Sequence[int], seed: int = 0) -> dict[str, float]:
        wrong = [outcome for outcome in predictions if not 0.0 <= outcome <= 1.0]
        if wrong:
            raise DataError(f"outcome {wrong[0]:g} is outside 0 to 1", why="1 is a win, 0.5 a tie, 0 a loss")
        found = win_rate(list(predictions), clusters=list(references), seed=seed)
        return {
            "preference_rate": found.signed_rate.mean,
            "preference_rate_low": found.signed_rate.low,
            "preference_rate_high": found.signed_rate.high,
            "preference_win_rate": found.win_rate.mean,
        }
