import pytest

from distill.errors import DataError


def test_replies_without_a_score_are_counted_and_bound_the_mean(load_metric):
    """8 and 6 of four replies: mean 7; were the two others 1 or 10: 16/4 = 4 and 34/4 = 8.5."""
    replies = ["Rating: [[8]]", "arr[0] is fine", "Rating: [[6]]", "Rating: [[95]]"]
    result = load_metric("mt_bench_score").compute(predictions=replies, references=[1, 1, 2, 2])
    assert result["mt_bench_score"] == 7.0
    assert result["mt_bench_unscored"] == 0.5
    assert (result["mt_bench_if_lowest"], result["mt_bench_if_highest"]) == (4.0, 8.5)
    assert 1.0 <= result["mt_bench_low"] <= 7.0 <= result["mt_bench_high"] <= 10.0


def test_no_score_at_all_is_refused(load_metric):
    with pytest.raises(DataError, match="none of 1 replies holds a score"):
        load_metric("mt_bench_score").compute(predictions=["good"], references=[1])
