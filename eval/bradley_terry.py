"""Strengths of many models from pairwise outcomes: Bradley-Terry by maximum likelihood, resampled by question."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from distill.errors import DataError
from eval.intervals import cluster_draws
from eval.logit import fit_logit
from eval.scores import Interval

Floats = NDArray[np.float64]

PRIOR_GAMES = 0.1
ELO_ANCHOR, ELO_PER_LOGIT = 1000.0, 400.0 / math.log(10.0)


@dataclass(frozen=True)
class Game:
    """One comparison: `outcome` is 1 where `first` won, 0.5 for a tie, 0 where `second` won."""

    first: str
    second: str
    outcome: float
    cluster: Hashable


@dataclass(frozen=True)
class Strengths:
    """Strengths in log-odds of winning against the baseline, which has 0.

    `is_separated` says that some models never lost or tied against the rest, or never won: their strength
    would be infinite, and what stands here is finite by the prior alone.
    """

    baseline: str
    by_model: dict[str, Interval]
    is_separated: bool

    def elo(self) -> dict[str, Interval]:
        """On Elo's scale: the baseline has 1000, and 400 points are odds of ten to one."""
        return {name: Interval(*map(_elo, (s.mean, s.low, s.high))) for name, s in self.by_model.items()}

    def win_probability(self, first: str, second: str) -> float:
        """Expected outcome of `first` against `second`, a tie as half."""
        return 1.0 / (1.0 + math.exp(self.by_model[second].mean - self.by_model[first].mean))


def bradley_terry(
    games: Sequence[Game],
    *,
    baseline: str,
    seed: int,
    prior_games: float = PRIOR_GAMES,
    num_resamples: int = 1_000,
    level: float = 0.95,
) -> Strengths:
    r"""Maximum of the likelihood with ties as half a win each; percentile intervals, clusters drawn anew.

    .. math:: P(i \text{ beats } j) = \frac{1}{1 + e^{b_j - b_i}}, \qquad b_{baseline} = 0

    Each pair of models that met is given `prior_games` more games, tied. That moves strengths from 160 games by less
    than a thousandth of themselves, and keeps them finite where a model won or lost all, in the data or in a resample.

    Args:
        games: comparisons; all of one question share a cluster. Two orders of one pair are two games.
        baseline: the model whose strength is 0.
        seed: of the resampling.
        prior_games: see above; 0 for plain maximum likelihood, where a separated resample ends at odds of 1e8 or so.
        num_resamples: fits that the intervals are read from.
        level: of the intervals.

    Raises:
        DataError: no game of the baseline's, a model against itself, an outcome outside [0, 1], models that no
            chain of games connects, fewer than two clusters, or infinite strengths without a prior.

    Source:
        Bradley & Terry 1952, Biometrika 39; when it is finite: Ford 1957, Amer. Math. Monthly 64.
        Differs: the prior, a tie for each pair that met.
    """
    models = _models(games, baseline=baseline)
    pairs, wins, trials = _by_cluster(games, models)
    is_separated = _check_connected(models, pairs, wins.sum(0), trials.sum(0))
    if is_separated and prior_games == 0:
        raise DataError(
            "the strengths are infinite",
            why="the games split the models into some that always won and some that always lost",
            fix="more games, or prior_games above 0",
        )
    features = np.zeros((len(pairs), len(models)))
    features[np.arange(len(pairs)), [i for i, _ in pairs]] = 1.0
    features[np.arange(len(pairs)), [j for _, j in pairs]] = -1.0
    draws = np.vstack([np.ones(len(wins)), cluster_draws(len(wins), num_resamples=num_resamples, seed=seed)])
    drawn_wins, drawn_trials = draws @ wins + prior_games / 2.0, draws @ trials + prior_games
    # A resample may hold no game of a model: without a prior a ridge too small to be seen leaves it at the baseline.
    ridge = np.full(len(models) - 1, 1e-9 if prior_games == 0 else 0.0)
    fitted = fit_logit(features[:, 1:], drawn_wins, drawn_trials, ridge=ridge)
    lows, highs = np.quantile(fitted[1:], [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    strengths = {
        name: Interval(float(mean), float(low), float(high))
        for name, mean, low, high in zip(models[1:], fitted[0], lows, highs, strict=True)
    }
    return Strengths(baseline, {baseline: Interval(0.0, 0.0, 0.0), **strengths}, is_separated)


def _models(games: Sequence[Game], *, baseline: str) -> list[str]:
    """The baseline, then the others by name."""
    names = {name for game in games for name in (game.first, game.second)}
    if baseline not in names:
        raise DataError(f"the baseline {baseline} stands in no game", fix=f"name one of {', '.join(sorted(names))}")
    for number, game in enumerate(games):
        if game.first == game.second:
            raise DataError(f"game {number} has {game.first} against itself", fix="leave it out")
        if not 0.0 <= game.outcome <= 1.0:
            raise DataError(f"game {number} has outcome {game.outcome}", why="0 to 1 was expected, a tie is 0.5")
    return [baseline, *sorted(names - {baseline})]


def _by_cluster(games: Sequence[Game], models: Sequence[str]) -> tuple[list[tuple[int, int]], Floats, Floats]:
    """Pairs (i, j) with i < j; the wins of i and the games of each pair in each cluster, [cluster, pair]."""
    index = {name: number for number, name in enumerate(models)}
    met = {(min(i, j), max(i, j)) for game in games for i, j in ((index[game.first], index[game.second]),)}
    pairs = sorted(met)
    columns = {pair: number for number, pair in enumerate(pairs)}
    rows = {cluster: number for number, cluster in enumerate(dict.fromkeys(game.cluster for game in games))}
    wins, trials = np.zeros((len(rows), len(pairs))), np.zeros((len(rows), len(pairs)))
    for game in games:
        i, j = index[game.first], index[game.second]
        row, column = rows[game.cluster], columns[min(i, j), max(i, j)]
        wins[row, column] += game.outcome if i < j else 1.0 - game.outcome
        trials[row, column] += 1.0
    return pairs, wins, trials


def _check_connected(models: Sequence[str], pairs: Sequence[tuple[int, int]], wins: Floats, trials: Floats) -> bool:
    """Refuses models that nothing connects; true where wins and ties do not lead from each model to each other."""
    first, second = np.array(pairs).T
    shape = (len(models), len(models))
    num_groups, groups = connected_components(coo_array((trials, (first, second)), shape=shape), directed=False)
    if num_groups > 1:
        apart = models[int(np.argmax(groups != groups[0]))]
        raise DataError(
            f"no chain of games connects {apart} with the baseline {models[0]}",
            why="their strengths cannot be compared",
            fix="judge both against one common model",
        )
    beaten = coo_array(
        (np.concatenate([wins, trials - wins]), (np.append(first, second), np.append(second, first))), shape=shape
    ).tocsr()
    beaten.eliminate_zeros()
    num_strong, _ = connected_components(beaten, directed=True, connection="strong")
    return bool(num_strong > 1)


def _elo(strength: float) -> float:
    return ELO_ANCHOR + ELO_PER_LOGIT * strength
