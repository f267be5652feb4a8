import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import DataError
from eval import scores
from eval.scores import mean_interval, paired_difference, proportion_interval

CLUSTERS = st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=1, max_size=4), min_size=1, max_size=12)


def test_mean_counts_every_value_alike():
    """(1 + 0 + 0 + 1 + 1) / 5, not the mean of the clusters' means (1/3 + 1) / 2."""
    assert mean_interval([[1, 0, 0], [1, 1]], seed=0, num_resamples=10).mean == 0.6


def test_two_clusters_known_interval():
    """Clusters 0 and 1: a resample is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4.

    Its 2.5 % and 97.5 % quantiles are 0 and 1; its 30 % and 70 % quantiles are both 1/2.
    """
    wide = mean_interval([[0.0], [1.0]], seed=1)
    assert (wide.mean, wide.low, wide.high) == (0.5, 0.0, 1.0)
    narrow = mean_interval([[0.0], [1.0]], seed=1, level=0.4)
    assert (narrow.low, narrow.high) == (0.5, 0.5)


def test_interval_of_independent_values_is_that_of_the_normal_law():
    """400 fair coins: standard error 0.5 / 20 = 0.025, so the ends lie 1.96 of it away."""
    interval = mean_interval([[float(i % 2)] for i in range(400)], seed=2)
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert interval.high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)


def test_clusters_of_copies_are_as_uncertain_as_their_number():
    """100 clusters of four equal values: the standard error is that of 100 values, not of 400."""
    clusters = [[float(i % 2)] * 4 for i in range(100)]
    alone = mean_interval([[cluster[0]] for cluster in clusters], seed=3)
    together = mean_interval(clusters, seed=3)
    assert together == alone
    apart = mean_interval([[value] for cluster in clusters for value in cluster], seed=3)
    assert together.high - together.low == pytest.approx(2 * (apart.high - apart.low), rel=0.1)


@given(CLUSTERS, st.integers(0, 2**32))
def test_the_interval_holds_between_the_extremes_and_repeats_itself(clusters, seed):
    interval = mean_interval(clusters, seed=seed, num_resamples=50)
    values = [value for cluster in clusters for value in cluster]
    assert min(values) - 1e-12 <= interval.low <= interval.high <= max(values) + 1e-12
    assert interval == mean_interval(clusters, seed=seed, num_resamples=50)


@given(CLUSTERS, st.randoms(use_true_random=False))
def test_the_order_of_clusters_does_not_matter(clusters, random):
    shuffled = random.sample(clusters, len(clusters))
    one, other = (mean_interval(c, seed=4, num_resamples=50) for c in (clusters, shuffled))
    assert (one.low, one.high) == (other.low, other.high)
    assert one.mean == pytest.approx(other.mean)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    """300 worlds of 60 clusters of 1 to 4 values that share an effect: 95 % give or take 3 standard errors of 1.3 %.

    The percentile interval is known to fall short by a point or two at this size.
    """
    rng = np.random.default_rng(5)
    num_covering = 0
    for world in range(300):
        effects = rng.normal(size=60)
        clusters = [effect + rng.normal(size=rng.integers(1, 5)) for effect in effects]
        interval = mean_interval(clusters, seed=world, num_resamples=300)
        num_covering += interval.low <= 0.0 <= interval.high
    assert 0.89 <= num_covering / 300 <= 0.985


def test_alike_clusters_leave_no_width():
    interval = mean_interval([[1.0], [1.0]], seed=6)
    assert (interval.mean, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_large_inputs_are_drawn_in_blocks(monkeypatch):
    monkeypatch.setattr(scores, "BLOCK_SIZE", 7)
    interval = mean_interval([[0.0], [1.0], [2.0]], seed=7, num_resamples=1000)
    assert interval.low < 0.6
    assert interval.high > 1.4


def test_the_global_generator_is_left_alone():
    np.random.seed(8)
    before = np.random.get_state()[1].tolist()
    paired_difference([1.0, 2.0], [0.0, 3.0], seed=9, num_resamples=20)
    assert np.random.get_state()[1].tolist() == before


def test_paired_difference_known_answer():
    """Differences 1, 1, 1: the mean is 1 whatever is drawn. Of 8 sign patterns 2 reach |3|: p = 1/4."""
    result = paired_difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0], seed=10)
    assert (result.difference.mean, result.difference.low, result.difference.high) == (1.0, 1.0, 1.0)
    assert result.p_value == pytest.approx(0.25, abs=0.02)
    assert result.num_clusters == 3


def test_ten_wins_in_ten_are_as_unlikely_as_ten_tosses():
    """2 / 2^10 = 0.00195, and the one seen counts: (10000 * 0.00195 + 1) / 10001 = 0.00205 on average."""
    p = paired_difference([1.0] * 10, [0.0] * 10, seed=11).p_value
    assert p == pytest.approx(0.00205, abs=0.0014)


def test_a_p_value_is_never_zero():
    assert paired_difference([1.0] * 60, [0.0] * 60, seed=12, num_resamples=99).p_value == 0.01


def test_equal_models_have_p_one_and_no_difference():
    result = paired_difference([0.0, 1.0, 1.0], [0.0, 1.0, 1.0], seed=13)
    assert (result.difference.mean, result.difference.low, result.difference.high) == (0.0, 0.0, 0.0)
    assert result.p_value == 1.0


def test_items_of_one_cluster_are_tossed_together():
    """Six wins in two clusters: of 4 sign patterns 2 reach |6|, p = 1/2; apart 2 of 64, p = 1/32."""
    first, second = [1.0] * 6, [0.0] * 6
    clustered = paired_difference(first, second, clusters=["a", "a", "a", "b", "b", "b"], seed=14)
    assert clustered.num_clusters == 2
    assert clustered.p_value == pytest.approx(0.5, abs=0.02)
    assert paired_difference(first, second, seed=14).p_value == pytest.approx(1 / 32, abs=0.008)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=15))
def test_exchanging_the_models_turns_the_difference_round(pairs):
    first, second = zip(*pairs, strict=True)
    forth = paired_difference(first, second, seed=15, num_resamples=50)
    back = paired_difference(second, first, seed=15, num_resamples=50)
    assert back.difference.mean == -forth.difference.mean
    assert back.p_value == forth.p_value


def test_without_a_difference_small_p_values_are_as_rare_as_they_say():
    """200 worlds without an effect: p <= 0.1 in a tenth of them, give or take 3 standard errors of 2.1 %."""
    rng = np.random.default_rng(16)
    worlds = rng.normal(size=(200, 2, 25))
    p_values = [paired_difference(a, b, seed=i, num_resamples=200).p_value for i, (a, b) in enumerate(worlds)]
    assert 0.035 <= np.mean(np.array(p_values) <= 0.1) <= 0.165


def test_wilson_known_answer():
    """0 of 10: the interval goes up to z^2 / (n + z^2) with z = 1.959964; mirrored for 10 of 10."""
    bound = 1.959964**2 / (10 + 1.959964**2)
    none, all_of_them = proportion_interval(0, 10), proportion_interval(10, 10)
    assert (none.mean, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(bound, abs=1e-6)
    assert (all_of_them.mean, all_of_them.high) == (1.0, 1.0)
    assert all_of_them.low == pytest.approx(1 - bound, abs=1e-6)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_agrees_with_its_formula(counts):
    """(p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)."""
    successes, trials = counts
    share, z = successes / trials, 1.6448536269514722
    middle = share + z**2 / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    interval = proportion_interval(successes, trials, level=0.9)
    assert interval.low == pytest.approx((middle - half) / (1 + z**2 / trials), abs=1e-9)
    assert interval.high == pytest.approx((middle + half) / (1 + z**2 / trials), abs=1e-9)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ([], "no values to take the mean of"),
        ([[1.0], []], "cluster 1 is empty"),
        ([[1.0], [0.0, math.nan]], "cluster 1 holds a value that is not finite"),
        ([[math.inf]], "cluster 0 holds a value that is not finite"),
    ],
)
def test_values_without_a_mean_are_refused(clusters, message):
    with pytest.raises(DataError, match=message):
        mean_interval(clusters, seed=0)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_a_level_is_a_probability(level):
    with pytest.raises(DataError, match=f"level is {level}\nwhy: a probability between 0 and 1"):
        mean_interval([[1.0]], seed=0, level=level)
    with pytest.raises(DataError, match=f"level is {level}"):
        proportion_interval(1, 2, level=level)


def test_an_interval_needs_resamples():
    with pytest.raises(DataError, match="num_resamples is 0"):
        mean_interval([[1.0]], seed=0, num_resamples=0)


@pytest.mark.parametrize(("first", "clusters"), [([1.0], None), ([1.0, 2.0], ["a"])])
def test_a_paired_comparison_needs_pairs(first, clusters):
    with pytest.raises(DataError, match="a paired comparison needs both values and the cluster of every item"):
        paired_difference(first, [1.0, 2.0], clusters=clusters, seed=0)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_needs_trials(successes, trials):
    with pytest.raises(DataError, match=f"{successes} successes in {trials} trials"):
        proportion_interval(successes, trials)
