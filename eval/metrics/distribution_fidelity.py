"""How near a student's next-token distributions are to its teacher's, as a module of the `evaluate` library.

    metric = evaluate.load("eval/metrics/distribution_fidelity.py")
    metric.compute(predictions=student_log_probs, references=teacher_log_probs)

Rows are token positions, columns the vocabulary; logits do as well, for every row is normalised here.
The library's import scanner reads imports line by line: none may stand in parentheses.
"""

from collections.abc import Sequence

import datasets
import evaluate
import torch

from distill.errors import DataError
from distill.numerics import log_softmax
from distill.objectives import divergence

DESCRIPTION = "Mean KL(teacher || student), total variation and top-1 agreement over token positions."
INPUTS = """
Args:
    predictions: the student's logits or log-probs, a row for each position over the vocabulary.
    references: the teacher's, of the same shape.

Returns:
    kl_nats: mean of KL(teacher || student), in nats.
    total_variation: mean half of the summed absolute differences of probabilities, in [0, 1].
    top1_agreement: share of positions at which both have the same likeliest token.
"""


class DistributionFidelity(evaluate.Metric):  # type: ignore[misc]
    """Fidelity of distributions with the interface of `evaluate.Metric`."""

    def _info(self) -> evaluate.MetricInfo:
        rows = datasets.Sequence(datasets.Value("float32"))
        features = datasets.Features({"predictions": rows, "references": rows})
        return evaluate.MetricInfo(description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features)

    def _compute(
        self, *, predictions: Sequence[Sequence[float]], references: Sequence[Sequence[float]]
    ) -> dict[str, float]:
        widths = {len(row) for row in (*predictions, *references)}
        if len(widths) != 1:
            raise DataError(f"rows of {sorted(widths)} columns", why="both models' rows go over one vocabulary")
        student = log_softmax(torch.tensor(predictions))[None]
        teacher = log_softmax(torch.tensor(references))[None]
        return {
            "kl_nats": float(divergence("forward_kl", teacher, student).mean()),
            "total_variation": float(divergence("total_variation", teacher, student).mean()),
            "top1_agreement": float((student.argmax(-1) == teacher.argmax(-1)).float().mean()),
        }
