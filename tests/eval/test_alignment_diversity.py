"""Diversity of known answers."""

from eval.alignment_diversity import distinct_bigrams, distinct_share, shown
from eval.scores import Interval


def test_distinct_share_counts_answers_once():
    assert distinct_share(["a b", "a b", "c", "a"]) == 0.75


def test_distinct_bigrams_of_all_answers_together():
    """a b, b c | a b: two different ones of three."""
    assert distinct_bigrams(["a b c", "a b"]) == 2 / 3
    assert distinct_bigrams(["a", ""]) == 0.0


def test_a_cell_holds_mean_and_interval():
    assert shown(Interval(0.5, 0.4, 0.6)) == "0.500 [0.400, 0.600]"
