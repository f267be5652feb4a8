import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from distill.errors import DataError
from eval import intervals
from eval.intervals import cluster_draws, clustered_interval, studentised_interval

NUM_SIMULATIONS = 2_400
NUM_QUESTIONS = 80
CLUSTERS = st.lists(st.lists(st.sampled_from([1.0, 7.0, 10.0]), min_size=1, max_size=3), min_size=2, max_size=9)


def normal_scores(rng):
    """Two turns of a question around 6, standard deviations 1.5 between and 1 within questions."""
    shape = (NUM_SIMULATIONS, NUM_QUESTIONS)
    scores = 6 + 1.5 * rng.normal(size=(*shape, 1)) + rng.normal(size=(*shape, 2))
    return scores.sum(-1), np.full(shape, 2.0), 6.0


def capped_scores(rng, centre, num_values=None):
    """Whole scores from 1 to 10; the mean of a rounded and cut normal is 1 + sum of P(score >= v), v = 2 to 10."""
    shape = (NUM_SIMULATIONS, NUM_QUESTIONS)
    latent = centre + 2.5 * rng.normal(size=(*shape, 1)) + 1.5 * rng.normal(size=(*shape, 4))
    sizes = np.full(shape, 2) if num_values is None else rng.integers(1, num_values + 1, size=shape)
    scores = np.where(np.arange(4) < sizes[..., None], np.clip(np.round(latent), 1, 10), 0.0)
    truth = 1 + sum(stats.norm.sf((v - 0.5 - centre) / np.hypot(2.5, 1.5)) for v in range(2, 11))
    return scores.sum(-1), sizes.astype(float), truth


@pytest.mark.parametrize(
    "simulate",
    [
        normal_scores,
        lambda rng: capped_scores(rng, 8.5),
        lambda rng: capped_scores(rng, 12.0),
        lambda rng: capped_scores(rng, 8.5, num_values=4),
    ],
    ids=["normal", "capped, 37 % tens", "capped, 80 % tens", "clusters of 1 to 4"],
)
def test_95_percent_intervals_cover_95_percent_of_the_time(simulate):
    """2,400 simulations of 80 questions, resamples drawn anew for each 200: 95 +- 2 %, and neither tail above 4 %."""
    rng = np.random.default_rng(20)
    sums, sizes, truth = simulate(rng)
    lows, highs = [], []
    for start in range(0, NUM_SIMULATIONS, 200):
        part = slice(start, start + 200)
        draws = cluster_draws(NUM_QUESTIONS, num_resamples=1_000, seed=start)
        _, low, high = studentised_interval(sums[part], sizes[part], draws=draws)
        lows.append(low)
        highs.append(high)
    below, above = (truth < np.concatenate(lows)).mean(), (truth > np.concatenate(highs)).mean()
    assert 0.93 <= 1 - below - above <= 0.97
    assert max(below, above) <= 0.04


def test_ten_capped_questions_are_covered_too():
    """A category of MT-Bench holds ten questions: the percentile interval covers 88 % there, this one 95 %."""
    rng = np.random.default_rng(21)
    sums, sizes, truth = (part[..., :10] if np.ndim(part) else part for part in capped_scores(rng, 8.5))
    draws = cluster_draws(10, num_resamples=1_000, seed=0)
    _, low, high = studentised_interval(sums, sizes, draws=draws)
    assert 0.93 <= ((low <= truth) & (truth <= high)).mean() <= 0.975
    means = (sums @ draws.T) / (sizes @ draws.T)
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert ((low <= truth) & (truth <= high)).mean() < 0.92


def test_known_answer_of_two_clusters():
    """Sums -1 and 1, sizes 1: m = 0; s^2 = 2 (1 + 1) / 2^2 = 1. Three draws: (1, 1): t = 0. (2, 0): m* = -1, s* = 0,
    t = -1 / sqrt(c / 2); (0, 2): its mirror. With c = 1/4 the middle level 0 to 1 ends at +-sqrt(8) sqrt(1.125) = 3.
    """
    draws = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    mean, low, high = studentised_interval(np.array([-1.0, 1.0]), np.ones(2), draws=draws, level=1 - 1e-12)
    assert float(mean) == 0.0
    assert (float(low), float(high)) == (pytest.approx(-3.0), pytest.approx(3.0))


def test_many_normal_clusters_meet_the_t_interval():
    """400 clusters: both ends within 0.07 standard errors of Student's."""
    values = np.random.default_rng(22).normal(5, 2, size=400)
    ours = clustered_interval(values[:, None].tolist(), seed=0, num_resamples=20_000)
    low, high = stats.t.interval(0.95, 399, loc=values.mean(), scale=stats.sem(values))
    assert ours.low == pytest.approx(low, abs=0.07 * stats.sem(values))
    assert ours.high == pytest.approx(high, abs=0.07 * stats.sem(values))


def test_skewed_scores_agree_with_bca_at_a_hundred_clusters():
    """Second-order methods agree: both intervals are moved to the same side of the symmetric one."""
    values = np.minimum(10.0, np.round(np.random.default_rng(23).normal(9, 2, size=100)))
    ours = clustered_interval(values[:, None].tolist(), seed=0, scale=(1, 10))
    bca = stats.bootstrap((values,), np.mean, method="BCa", rng=np.random.default_rng(0)).confidence_interval
    error = stats.sem(values)
    assert ours.low == pytest.approx(bca.low, abs=0.3 * error)
    assert ours.high == pytest.approx(bca.high, abs=0.3 * error)
    assert values.mean() - ours.low > ours.high - values.mean() + 0.1 * error


@settings(max_examples=25)
@given(CLUSTERS, st.randoms(use_true_random=False))
def test_the_interval_repeats_itself_in_any_order(clusters, random):
    shuffled = random.sample(clusters, len(clusters))
    one, other = (clustered_interval(c, seed=1, scale=(1, 10), num_resamples=60) for c in (clusters, shuffled))
    assert (one.low, one.high) == (pytest.approx(other.low), pytest.approx(other.high))
    assert 1.0 <= one.low <= one.high <= 10.0


@settings(max_examples=25)
@given(CLUSTERS, st.floats(-5, 5), st.floats(0.1, 9))
def test_the_interval_moves_and_stretches_with_the_scores(clusters, shift, stretch):
    plain = clustered_interval(clusters, seed=2, num_resamples=60)
    moved = clustered_interval([[shift + stretch * v for v in c] for c in clusters], seed=2, num_resamples=60)
    # A change of scale may change the order of clusters of unequal size, and with it which are drawn.
    if len({len(cluster) for cluster in clusters}) == 1:
        assert moved.low == pytest.approx(shift + stretch * plain.low, abs=1e-6)
        assert moved.high == pytest.approx(shift + stretch * plain.high, abs=1e-6)
    assert moved.mean == pytest.approx(shift + stretch * plain.mean)


def test_a_single_lower_score_among_tens_leaves_finite_ends():
    """A third of the resamples hold tens only; their standard error is zero."""
    interval = clustered_interval([[10.0, 10.0]] * 79 + [[8.0, 8.0]], seed=3, scale=(1, 10))
    assert 9.5 < interval.low < interval.mean <= interval.high <= 10.0


def test_alike_clusters_leave_no_width():
    interval = clustered_interval([[10.0]] * 5, seed=4, scale=(1, 10))
    assert (interval.mean, interval.low, interval.high) == (10.0, 10.0, 10.0)


def test_each_resample_draws_as_many_clusters_as_there_are(monkeypatch):
    monkeypatch.setattr(intervals, "BLOCK_SIZE", 50)
    draws = cluster_draws(7, num_resamples=2_000, seed=5)
    assert (draws.sum(1) == 7).all()
    np.testing.assert_allclose(draws.mean(0), 1.0, atol=0.1)


@pytest.mark.parametrize(
    ("clusters", "message"),
    [
        ([[1.0]], "1 clusters to resample"),
        ([[1.0], []], "cluster 1 is empty"),
        ([[1.0], [float("nan")]], "cluster 1 holds a value that is not finite"),
        ([[1.0], [2.0, 80.0]], "cluster 1 holds 80\nwhy: the scale goes from 1 to 10"),
        ([[0.5], [2.0]], "cluster 0 holds 0.5"),
    ],
)
def test_values_that_have_no_interval_are_refused(clusters, message):
    with pytest.raises(DataError, match=message):
        clustered_interval(clusters, seed=0, scale=(1, 10))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(DataError, match="num_resamples is 0"):
        clustered_interval([[1.0], [2.0]], seed=0, num_resamples=0)
    with pytest.raises(DataError, match="level is 95"):
        clustered_interval([[1.0], [2.0]], seed=0, level=95)
