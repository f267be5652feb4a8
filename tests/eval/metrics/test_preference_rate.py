import evaluate
import pytest

from distill.errors import DataError


def test_wins_less_losses_by_question(load_metric):
    """Win, tie, loss, win: (2 - 1) / 4 = 1/4; win rate (1 + 1/4) / 2 = 5/8."""
    result = load_metric("preference_rate").compute(predictions=[1, 0.5, 0, 1], references=[1, 1, 2, 3])
    assert result["preference_rate"] == pytest.approx(0.25)
    assert result["preference_win_rate"] == pytest.approx(0.625)
    assert result["preference_rate_low"] <= 0.25 <= result["preference_rate_high"]


def test_outcomes_off_the_scale_are_refused(load_metric):
    with pytest.raises(DataError, match="outcome 2 is outside 0 to 1"):
        load_metric("preference_rate").compute(predictions=[2.0, 1.0], references=[1, 2])


def test_metrics_of_the_same_inputs_are_combined(load_metric):
    """`evaluate.combine` hands the same replies to both."""
    pair = evaluate.combine([load_metric("mt_bench_score"), load_metric("mt_bench_score")])
    result = pair.compute(predictions=["Rating: [[4]]", "Rating: [[6]]"], references=[1, 2])
    assert result["mt_bench_score_0_mt_bench_score"] == result["mt_bench_score_1_mt_bench_score"] == 5.0
