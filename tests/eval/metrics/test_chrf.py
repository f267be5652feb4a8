import pytest

pytest.importorskip("sacrebleu", reason="the extra text-metrics is not installed")


def test_equal_texts_score_100_and_texts_without_a_common_letter_0(load_metric):
    metric = load_metric("chrf")
    assert metric.compute(predictions=["oat milk"], references=["oat milk"]) == {"chrf": pytest.approx(100.0)}
    assert metric.compute(predictions=["xyz"], references=["oat milk"]) == {"chrf": 0.0}
