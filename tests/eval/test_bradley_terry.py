import math

import numpy as np
import pytest
from scipy.optimize import minimize

from distill.errors import DataError
from eval.bradley_terry import Game, bradley_terry
from eval.intervals import cluster_draws
from eval.logit import fit_logit

PLANTED = {"base": 0.0, "good": 0.8, "great": 1.5, "poor": -1.0}


def planted_games(rng, num_questions, spread=0.0):
    """Each pair meets once a question in both orders; a question may favour a model by `spread`."""
    games = []
    for question in range(num_questions):
        effect = {name: strength + spread * rng.normal() for name, strength in PLANTED.items()}
        for first in PLANTED:
            for second in PLANTED:
                if first != second:
                    won = rng.random() < 1 / (1 + math.exp(effect[second] - effect[first]))
                    games.append(Game(first, second, float(won), question))
    return games


def test_two_models_known_answer():
    """A prior too small to matter: 3 wins, 2 ties, 1 loss are 4 of 6: ln 2, or 1000 + 400 log10 2 = 1120.41."""
    outcomes = [1, 1, 1, 0.5, 0.5, 0]
    games = [Game("a", "b", outcome, number) for number, outcome in enumerate(outcomes)]
    result = bradley_terry(games * 40, baseline="b", seed=0, prior_games=1e-5, num_resamples=50)
    assert result.by_model["a"].mean == pytest.approx(math.log(2), abs=1e-6)
    assert result.elo()["a"].mean == pytest.approx(1120.41, abs=0.01)
    assert result.elo()["b"].mean == 1000.0
    assert result.win_probability("a", "b") == pytest.approx(2 / 3)
    assert not result.is_separated


def test_the_prior_is_a_tie_per_pair_that_met():
    """4 wins of 4 and a prior of 0.1 games: (4 + 0.05) / 4.1, log-odds ln(4.05 / 0.05) = ln 81."""
    games = [Game("a", "b", 1.0, number) for number in range(4)]
    result = bradley_terry(games, baseline="b", seed=0, num_resamples=20)
    assert result.is_separated
    assert result.by_model["a"].mean == pytest.approx(math.log(81))
    with pytest.raises(DataError, match="the strengths are infinite"):
        bradley_terry(games, baseline="b", seed=0, prior_games=0.0)


def test_planted_strengths_are_recovered():
    """1,200 questions: standard errors near 0.05; within four of them, and within the intervals."""
    result = bradley_terry(planted_games(np.random.default_rng(1), 1_200), baseline="base", seed=1, num_resamples=200)
    for name, strength in PLANTED.items():
        found = result.by_model[name]
        assert found.mean == pytest.approx(strength, abs=0.2)
        assert found.low - 0.03 <= strength <= found.high + 0.03


def test_agrees_with_a_general_optimiser():
    games = planted_games(np.random.default_rng(2), 30)
    names = [name for name in PLANTED if name != "base"]

    def loss(strengths):
        by_model = {"base": 0.0, **dict(zip(names, strengths, strict=True))}
        margins = [(by_model[g.first] - by_model[g.second]) * (1 if g.outcome else -1) for g in games]
        return np.logaddexp(0, -np.array(margins)).sum()

    result = bradley_terry(games, baseline="base", seed=2, prior_games=0.0, num_resamples=20)
    np.testing.assert_allclose([result.by_model[n].mean for n in names], minimize(loss, np.zeros(3)).x, atol=1e-4)


def test_intervals_cover_planted_strengths():
    """600 worlds of 80 questions and 160 games of two models: 95 %, give or take 3 standard errors of 0.9 %."""
    rng = np.random.default_rng(3)
    wins = (rng.random((600, 80, 2)) < 1 / (1 + math.exp(-0.8))).sum(-1).astype(float)
    draws = cluster_draws(80, num_resamples=400, seed=3)
    drawn = (wins @ draws.T).reshape(-1, 1)
    fitted = fit_logit(np.ones((1, 1)), drawn, np.full_like(drawn, 160.0), ridge=np.zeros(1)).reshape(600, 400)
    low, high = np.quantile(fitted, [0.025, 0.975], axis=1)
    assert 0.92 <= ((low <= 0.8) & (high >= 0.8)).mean() <= 0.975


def test_exchanging_sides_changes_nothing():
    games = planted_games(np.random.default_rng(4), 20)
    turned = [Game(g.second, g.first, 1 - g.outcome, g.cluster) for g in games]
    there, back = (bradley_terry(g, baseline="good", seed=4, num_resamples=50) for g in (games, turned))
    for name in PLANTED:
        assert there.by_model[name].mean == pytest.approx(back.by_model[name].mean, abs=1e-7)
        assert there.by_model[name].low == pytest.approx(back.by_model[name].low, abs=1e-7)


def test_turns_in_a_cluster_widen_the_interval():
    """Twice the same games in the same clusters: the strength and its interval stay."""
    games = planted_games(np.random.default_rng(5), 25)
    once = bradley_terry(games, baseline="base", seed=5, prior_games=0.1, num_resamples=200)
    twice = bradley_terry(games * 2, baseline="base", seed=5, prior_games=0.2, num_resamples=200)
    assert twice.by_model["great"].low == pytest.approx(once.by_model["great"].low, abs=1e-6)


@pytest.mark.parametrize(
    ("games", "message"),
    [
        ([Game("a", "b", 1.0, 0)], "the baseline base stands in no game\nfix: name one of a, b"),
        ([Game("base", "base", 1.0, 0)], "game 0 has base against itself"),
        ([Game("a", "base", 1.5, 0)], "game 0 has outcome 1.5"),
        ([Game("a", "base", 1.0, 0)], "1 clusters to resample"),
        ([Game("a", "base", 1.0, 0), Game("b", "c", 1.0, 1)], "no chain of games connects b with the baseline base"),
    ],
)
def test_games_without_strengths_are_refused(games, message):
    with pytest.raises(DataError, match=message):
        bradley_terry(games, baseline="base", seed=0)
