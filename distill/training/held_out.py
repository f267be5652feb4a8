"""Held-out losses and what follows from them: which step is best, when to stop; which pairs are held out."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from distill.data import TokenizedPair
from distill.errors import RecipeError
from distill.training.feed import Examples
from distill.training.settings import TrainSettings


@dataclass(frozen=True)
class HeldOutLosses:
    """The held-out losses of a run so far, (step, loss) in order; what is decided follows from them alone.

    A checkpoint keeps them, so that a resumed run decides what the uninterrupted one did. A loss that is not finite
    counts as infinite.
    """

    losses: tuple[tuple[int, float], ...] = ()

    def after(self, step: int, loss: float) -> "HeldOutLosses":
        """These and one more."""
        return HeldOutLosses((*self.losses, (step, loss if math.isfinite(loss) else math.inf)))

    @property
    def best_step(self) -> int | None:
        """The step of the lowest loss, the first of equal ones; `None` before the first."""
        return min(self.losses, key=lambda held: (held[1], held[0]))[0] if self.losses else None

    def num_without_improvement(self, *, min_improvement: float) -> int:
        """How many came since the last that was lower than the best before it by more than `min_improvement` nats."""
        best, since = math.inf, 0
        for _, loss in self.losses:
            if loss < best - min_improvement:
                best, since = loss, 0
            else:
                since += 1
        return since

    def is_time_to_stop(self, settings: TrainSettings) -> bool:
        """Whether `stop_after` losses in a row brought no improvement."""
        if settings.stop_after is None:
            return False
        return self.num_without_improvement(min_improvement=settings.min_improvement) >= settings.stop_after

    def to_json(self) -> list[list[float | None]]:
        """For a checkpoint's record; an infinite loss is null."""
        return [[step, loss if math.isfinite(loss) else None] for step, loss in self.losses]

    @staticmethod
    def from_json(value: object) -> "HeldOutLosses":
        """What `to_json` gave.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(value, list) or not all(isinstance(held, list) and len(held) == 2 for held in value):
            raise ValueError("held_out is no list of steps and losses")
        return HeldOutLosses(tuple((int(step), math.inf if loss is None else float(loss)) for step, loss in value))


def held_out_parts(examples: Examples, validation: Examples, settings: TrainSettings) -> tuple[Examples, Examples]:
    """The examples to train on, and the held-out ones: those given, or a part of the pairs (`num_valid_pairs`).

    Raises:
        RecipeError: both are given, no pair would be left to train on, or losses are to be compared on nothing.
    """
    if settings.num_valid_pairs:
        if validation:
            raise RecipeError(
                f"num_valid_pairs is {settings.num_valid_pairs}, and {len(validation)} held-out examples are given",
                fix="leave out the one or the other",
            )
        examples, validation = split_pairs([pair for pair in examples if isinstance(pair, TokenizedPair)], settings)
    wanted = [name for name in ("keep_best", "stop_after") if getattr(settings, name)]
    if wanted and not validation:
        raise RecipeError(
            f"{' and '.join(wanted)} {'is' if len(wanted) == 1 else 'are'} set, and there are no held-out examples",
            why="checkpoints are compared by their loss on examples that training does not see",
            fix="hold some out: num_valid_pairs=50 for pairs, or a valid split in data for conversations",
        )
    return examples, validation


def split_pairs(
    pairs: Sequence[TokenizedPair], settings: TrainSettings
) -> tuple[list[TokenizedPair], list[TokenizedPair]]:
    """The pairs to train on and the held-out ones, both in their order.

    Pairs with one prompt stand on one side. Prompts are drawn by the sha256 of their tokens until `num_valid_pairs`
    pairs are held out or more, so the same pairs give the same halves in any order, whatever the seed.

    Raises:
        RecipeError: none would be left to train on.
    """
    by_prompt: dict[str, list[int]] = {}
    for index, pair in enumerate(pairs):
        tokens = ",".join(map(str, pair.chosen.prompt_ids))
        by_prompt.setdefault(hashlib.sha256(tokens.encode()).hexdigest(), []).append(index)
    held_out: set[int] = set()
    for digest in sorted(by_prompt):
        if len(held_out) >= settings.num_valid_pairs:
            break
        held_out.update(by_prompt[digest])
    if len(held_out) == len(pairs):
        raise RecipeError(
            f"num_valid_pairs is {settings.num_valid_pairs}, and there are {len(pairs)} pairs of {len(by_prompt)} "
            "prompts",
            why="no pair would be left to train on",
            fix="lower num_valid_pairs, or make more pairs",
        )
    return (
        [pair for index, pair in enumerate(pairs) if index not in held_out],
        [pair for index, pair in enumerate(pairs) if index in held_out],
    )
