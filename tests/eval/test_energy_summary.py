"""Readings to rows: what is pooled, what is resampled together, and the curve of best-of-n."""

import numpy as np
import pytest

from eval.energy_exam import Held
from eval.energy_summary import best_of_n_rows, summarised


def held(base: list[float], refined: list[float], clusters: list[str] | None = None) -> Held:
    names = tuple(clusters or [f"c{number}" for number in range(len(base))])
    return Held(np.array(base), np.array(refined), names, num_fitted=10, num_kept=8, share_restarted=0.1, steps=2.0,
                least_climb=0.0)  # fmt: skip


def test_every_reading_counts_alike_in_the_pool():
    """a: base 2 of 4, EBRM 3 of 4, twice; b: base 4 of 4, EBRM 4 of 4: all 8 of 12 and 10 of 12."""
    first = held([1.0, 1.0, -1.0, -1.0], [1.0, 1.0, 1.0, -1.0])
    second = held([1.0, 2.0, 1.0, 3.0], [2.0, 1.0, 1.0, 1.0])
    rows = {row.name: row for row in summarised({"a": [first, first], "b": [second]}, {"a": 20, "b": 20}, seed=0)}
    assert rows["a"].difference.mean == pytest.approx(0.25)
    assert rows["b"].difference.mean == 0.0
    assert rows["all"].base.mean == pytest.approx(8 / 12)
    assert rows["all"].refined.mean == pytest.approx(10 / 12)
    assert (rows["all"].num_outcomes, rows["all"].num_pairs, rows["all"].num_clusters) == (12, 40, 8)
    assert rows["all"].share_kept == pytest.approx(0.8)


def test_a_single_set_is_its_own_pool():
    rows = summarised({"a": [held([1.0, -1.0, 2.0, 1.0], [1.0, 1.0, 2.0, 1.0])]}, {"a": 4}, seed=0)
    assert [row.name for row in rows] == ["a"]


def test_readings_of_one_cluster_are_resampled_together():
    """Two seeds that read the same pairs tell no more than one."""
    one = held([1.0, -1.0, 1.0, -1.0, 2.0, -2.0], [1.0, 1.0, 1.0, -1.0, 2.0, 2.0])
    once = summarised({"a": [one]}, {"a": 6}, seed=0)[0]
    twice = summarised({"a": [one, one]}, {"a": 6}, seed=0)[0]
    assert (twice.difference.low, twice.difference.high) == pytest.approx((once.difference.low, once.difference.high))


def test_a_selector_that_is_gold_rises_and_one_that_is_its_reverse_falls():
    gold = np.random.default_rng(0).normal(size=(30, 8))
    rows, base_fall, refined_fall = best_of_n_rows([-gold], [gold], gold, seed=0)
    assert [row.n for row in rows] == [1, 2, 4, 8]
    assert base_fall.high < 0 < refined_fall.low
    assert rows[0].difference.mean == pytest.approx(0.0, abs=1e-12)
    assert rows[-1].difference.low > 0
    assert rows[-1].base_proxy > rows[0].base_proxy
