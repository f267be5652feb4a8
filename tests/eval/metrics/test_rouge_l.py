import evaluate
import pytest

pytest.importorskip("rouge_score", reason="the extra text-metrics is not installed")


def test_the_longest_common_subsequence_of_words(load_metric):
    """`the cat sat` against `the dog sat down`: common `the sat`, precision 2/3, recall 2/4, F1 4/7."""
    result = load_metric("rouge_l").compute(predictions=["the cat sat"], references=["the dog sat down"])
    assert result["rouge_l"] == pytest.approx(4 / 7)


def test_rouge_and_chrf_are_combined(load_metric):
    pytest.importorskip("sacrebleu", reason="the extra text-metrics is not installed")
    both = evaluate.combine([load_metric("rouge_l"), load_metric("chrf")])
    assert both.compute(predictions=["a b"], references=["a b"]) == {"rouge_l": 1.0, "chrf": pytest.approx(100.0)}
