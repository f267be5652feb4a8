"""`python -m eval.reward_bench MODEL --llmbar FOLDER --pandalm FILE --reward-bench FILE`: accuracy by subset.

An answer pair counts 1 where the better answer has the higher reward, 1/2 for equal rewards. A section's score is the
mean of its subsets' accuracies, each weighted by its count. Pairs that the model cannot read whole are left out of the
accuracies and counted; the bounds say what they could have made of them. MODEL is a reward model or an EBRM.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from distill.data import Message
from distill.errors import DataError, DistillError
from distill.preference.rewarded import fits
from distill.reward import Scorer, load_scorer
from distill.settings import Settings
from eval.intervals import clustered_interval
from eval.results import MISSING, share
from eval.reward_bench_data import READERS, BenchPair
from eval.scores import Interval
from eval.speed.figures import markdown_table

HEADINGS = ("section", "subset", "pairs", "accuracy", "ties", "too long", "bounds")
SCALE = (0.0, 1.0)
PAIRS_PER_BLOCK = 128


class SubsetScore(Settings):
    """One subset, or a whole section; `accuracy` is of the pairs that were read, None where there are none.

    `low` and `high` are the accuracy if all pairs that were not read were judged wrongly, or rightly.
    """

    section: str
    subset: str
    num_pairs: int
    num_ties: int
    num_unread: int
    accuracy: Interval | None
    low: float
    high: float

    def cells(self) -> tuple[str, ...]:
        """The row as text, one cell for each of `HEADINGS`."""
        bounds = MISSING if not self.num_unread else f"{100 * self.low:.1f} to {100 * self.high:.1f} %"
        counts = (f"{self.num_pairs:,}", share(self.accuracy), str(self.num_ties), str(self.num_unread))
        return (self.section, self.subset, *counts, bounds)


class RewardBench(Settings):
    """What a model scored; the subset `all` of a section is all of its pairs."""

    format: Literal["distill-reward-bench"] = "distill-reward-bench"
    version: Literal[1] = 1
    model: str
    scores: tuple[SubsetScore, ...]

    def to_markdown(self) -> str:
        """A table with one row a subset."""
        return markdown_table(HEADINGS, [score.cells() for score in self.scores]) + "\n"


def reward_bench(scorer: Scorer, pairs: Sequence[BenchPair], *, name: str, seed: int = 0) -> RewardBench:
    """Scores every pair.

    Args:
        scorer: gives the rewards.
        pairs: of any sections and subsets.
        name: of the model, for the table.
        seed: of the intervals, which resample prompts.

    Raises:
        DataError: there is no pair.
    """
    if not pairs:
        raise DataError("no pairs to measure a reward model on", why="its accuracy would be unknown", fix="name a set")
    points = pair_points(scorer, pairs)
    scores = []
    for section in dict.fromkeys(pair.section for pair in pairs):
        own = [i for i, pair in enumerate(pairs) if pair.section == section]
        subsets = list(dict.fromkeys(pairs[i].subset for i in own))
        for subset in subsets if len(subsets) > 1 else []:
            part = [i for i in own if pairs[i].subset == subset]
            scores.append(_score(section, subset, [pairs[i] for i in part], [points[i] for i in part], seed=seed))
        whole = subsets[0] if len(subsets) == 1 else "all"
        scores.append(_score(section, whole, [pairs[i] for i in own], [points[i] for i in own], seed=seed))
    return RewardBench(model=name, scores=tuple(scores))


def pair_points(scorer: Scorer, pairs: Sequence[BenchPair]) -> list[float | None]:
    """1, 1/2 or 0 for each pair; None where the model cannot read both answers."""
    points: list[float | None] = [None] * len(pairs)
    for start in range(0, len(pairs), PAIRS_PER_BLOCK):
        block = range(start, min(start + PAIRS_PER_BLOCK, len(pairs)))
        dialogues = {i: [_dialogue(pairs[i], answer) for answer in (pairs[i].better, pairs[i].worse)] for i in block}
        read = [i for i in block if all(fits(scorer, dialogue) for dialogue in dialogues[i])]
        rewards = scorer.score([dialogue for i in read for dialogue in dialogues[i]]).tolist()
        for i, better, worse in zip(read, rewards[::2], rewards[1::2], strict=True):
            points[i] = 0.5 if better == worse else float(better > worse)
    return points


def _dialogue(pair: BenchPair, answer: str) -> tuple[Message, ...]:
    return (*pair.prompt, Message("assistant", answer))


def _score(
    section: str, subset: str, pairs: Sequence[BenchPair], points: Sequence[float | None], *, seed: int
) -> SubsetScore:
    by_prompt: dict[tuple[Message, ...], list[float]] = {}
    for pair, point in zip(pairs, points, strict=True):
        if point is not None:
            by_prompt.setdefault(pair.prompt, []).append(point)
    known = [point for point in points if point is not None]
    clusters = list(by_prompt.values())
    mean = sum(known) / len(known) if known else None
    accuracy = None if mean is None else Interval(mean, 0.0, 1.0)
    if len(clusters) > 1:
        accuracy = clustered_interval(clusters, seed=seed, scale=SCALE)
    num_unread = len(points) - len(known)
    return SubsetScore(
        section=section,
        subset=subset,
        num_pairs=len(points),
        num_ties=sum(point == 0.5 for point in known),
        num_unread=num_unread,
        accuracy=accuracy,
        low=sum(known) / len(points),
        high=(sum(known) + num_unread) / len(points),
    )


def read_sets(paths: Mapping[str, Path | None]) -> list[BenchPair]:
    """The pairs of each named set whose path is given.

    Raises:
        DataError: no path is given, or a file is missing or wrong.
    """
    given = {name: path for name, path in paths.items() if path is not None}
    if not given:
        raise DataError("no set is named", why="there is nothing to measure on", fix=f"--{next(iter(paths))} PATH")
    return [pair for name, path in given.items() for pair in READERS[name](path)]


def main() -> None:
    """Prints the table, or the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m eval.reward_bench", description=__doc__)
    parser.add_argument("model", help="folder or hub id of a reward model, or folder of an EBRM")
    for name in READERS:
        parser.add_argument(f"--{name}", type=Path, help=f"folder or file of the {name} format")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals")
    parser.add_argument("--json", action="store_true", help="figures as JSON")
    arguments = vars(parser.parse_args())
    try:
        pairs = read_sets({name: arguments[name.replace("-", "_")] for name in READERS})
        found = reward_bench(
            load_scorer(arguments["model"]), pairs, name=str(arguments["model"]), seed=arguments["seed"]
        )
    except DistillError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    text = json.dumps(found.model_dump(mode="json"), indent=2) + "\n" if arguments["json"] else found.to_markdown()
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
