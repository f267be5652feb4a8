import pytest

from distill.errors import DataError, GateError, RecipeError
from eval.mt_bench.board import BoardSettings
from eval.mt_bench.judgments import SingleJudgment
from eval.mt_bench.regression import compare_models, require_not_worse

SETTINGS = BoardSettings(num_resamples=200)


def rows() -> list[SingleJudgment]:
    """b scores 8, a 7 on odd questions and 8 on even ones: half a point below."""
    scores = [("b", q, 8) for q in range(8)] + [("a", q, 8 - q % 2) for q in range(8)]
    return [SingleJudgment(q, m, ("j", "p"), f"{m} {q}", f"Rating: [[{s}]]", s, 1, 0.0) for m, q, s in scores]


def test_the_gate_reads_the_mean_difference():
    found = compare_models(rows(), "a", "b", settings=SETTINGS)
    assert found.paired.difference.mean == -0.5
    require_not_worse(found, by=0.5)
    require_not_worse(compare_models(rows(), "b", "a", settings=SETTINGS), by=0.0)
    with pytest.raises(GateError, match=r"a scores 0\.50 points below b, and 0\.2 are allowed"):
        require_not_worse(found, by=0.2)
    with pytest.raises(RecipeError, match="--fail-if-worse is -1"):
        require_not_worse(found, by=-1.0)


def test_models_that_cannot_be_compared_are_refused():
    with pytest.raises(DataError, match="c was not judged"):
        compare_models(rows(), "a", "c", settings=SETTINGS)
    with pytest.raises(DataError, match="compared with itself"):
        compare_models(rows(), "a", "a", settings=SETTINGS)
    with pytest.raises(DataError, match="fewer than two questions"):
        compare_models([row for row in rows() if row.question_id == 0], "a", "b", settings=SETTINGS)
