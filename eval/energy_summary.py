"""From held-out margins of all seeds to figures with intervals, by set and pooled."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from distill.files import fingerprint
from eval.best_of_n import best_of_n, kl_of_best_of_n
from eval.energy_exam import Held, points
from eval.energy_figures import POOLED, BestOfNRow, PairSetFigures
from eval.intervals import clustered_interval
from eval.pair_calibration import pair_calibration
from eval.paired import cluster_differences, studentised_difference
from eval.scores import Interval

Floats = NDArray[np.float64]
SHARE = (0.0, 1.0)


def summarised(held: Mapping[str, Sequence[Held]], num_pairs: Mapping[str, int], *, seed: int) -> list[PairSetFigures]:
    """A row for each set, and where there are several, one for all of them, in which every reading counts alike.

    Args:
        held: each set's readings, one entry a seed.
        num_pairs: of each set.
        seed: of the intervals.
    """
    rows = [_summary(name, {name: seeds}, num_pairs[name], seed=seed) for name, seeds in held.items()]
    if len(rows) > 1:
        rows.append(_summary(POOLED, held, sum(num_pairs.values()), seed=seed))
    return rows


def _summary(name: str, held: Mapping[str, Sequence[Held]], num_pairs: int, *, seed: int) -> PairSetFigures:
    """Readings of one cluster are resampled together, whatever the seed; temperatures are fitted set by set."""
    every = [(which, one) for which, seeds in held.items() for one in seeds]
    base, refined = (np.concatenate([points(getattr(one, kind)) for _, one in every]) for kind in ("base", "refined"))
    clusters = [f"{which}/{cluster}" for which, one in every for cluster in one.clusters]
    found = studentised_difference(refined.tolist(), base.tolist(), clusters=clusters, scale=SHARE, seed=seed)
    losses, errors = {}, {}
    for kind in ("base", "refined"):
        calibrated = [_calibrated(one, kind) for _, one in every]
        losses[kind] = np.concatenate([part for part, _ in calibrated])
        errors[kind] = sum(error * len(part) for part, error in calibrated) / len(base)
    sizes = [len(one.base) for _, one in every]
    return PairSetFigures(
        name=name,
        num_pairs=num_pairs,
        num_outcomes=len(base),
        num_clusters=found.num_clusters,
        base=_interval(base, clusters, seed=seed, scale=SHARE),
        refined=_interval(refined, clusters, seed=seed, scale=SHARE),
        difference=found.difference,
        p_value=found.p_value,
        base_loss=_interval(losses["base"], clusters, seed=seed),
        refined_loss=_interval(losses["refined"], clusters, seed=seed),
        loss_difference=_interval(losses["refined"] - losses["base"], clusters, seed=seed),
        base_calibration_error=errors["base"],
        refined_calibration_error=errors["refined"],
        share_kept=sum(one.num_kept for _, one in every) / sum(one.num_fitted for _, one in every),
        share_restarted=float(np.average([one.share_restarted for _, one in every], weights=sizes)),
        mean_steps=float(np.average([one.steps for _, one in every], weights=sizes)),
    )


def _calibrated(held: Held, kind: str) -> tuple[Floats, float]:
    # Salted: folds go by the hash of the bare name.
    halves = np.array([int(fingerprint(["half", cluster])[:8], 16) % 2 == 0 for cluster in held.clusters])
    found = pair_calibration(getattr(held, kind), halves)
    return found.losses, found.error


def _interval(
    values: Floats, clusters: Sequence[str], *, seed: int, scale: tuple[float, float] | None = None
) -> Interval:
    grouped = cluster_differences(values.tolist(), [0.0] * len(values), clusters=clusters)
    return clustered_interval(grouped, seed=seed, scale=scale)


def best_of_n_rows(
    base: Sequence[Floats], refined: Sequence[Floats], gold: Floats, *, seed: int
) -> tuple[list[BestOfNRow], Interval, Interval]:
    """The curve over n = 1, 2, 4 ... N, and how far gold has fallen at N from its highest at a smaller n, by model.

    Args:
        base: rewards of each seed's base model, [prompt, answer] each.
        refined: of its EBRM.
        gold: of the same answers.
        seed: of the intervals, which resample prompts.
    """
    num_answers = gold.shape[1]
    numbers = [2**k for k in range(num_answers.bit_length()) if 2**k < num_answers] + [num_answers]
    golds, proxies = [], []
    for models in (base, refined):
        golds.append(np.mean([best_of_n(scores, gold, numbers) for scores in models], axis=0))
        scaled = [(scores - scores.mean()) / (scores.std() or 1.0) for scores in models]
        proxies.append(np.mean([best_of_n(scores, scores, numbers) for scores in scaled], axis=(0, 2)))
    rows = [
        BestOfNRow(
            n=n,
            kl_nats=kl_of_best_of_n(n),
            base_gold=_of_prompts(golds[0][i], seed=seed),
            refined_gold=_of_prompts(golds[1][i], seed=seed),
            difference=_of_prompts(golds[1][i] - golds[0][i], seed=seed),
            base_proxy=float(proxies[0][i]),
            refined_proxy=float(proxies[1][i]),
        )
        for i, n in enumerate(numbers)
    ]
    falls = [_of_prompts(own[-1] - own[int(own[:-1].mean(axis=1).argmax())], seed=seed) for own in golds]
    return rows, falls[0], falls[1]


def _of_prompts(values: Floats, *, seed: int) -> Interval:
    return clustered_interval([[value] for value in values.tolist()], seed=seed)
