"""After how many tokens an artefact's greedy answers leave the merged model's."""

import math
from collections.abc import Sequence


def first_difference(expected: Sequence[int], actual: Sequence[int]) -> int | None:
    """The index of the first token that differs; where one answer goes on after the other's end, that end's index.

    Returns:
        None where both are the same.
    """
    for index, (ours, theirs) in enumerate(zip(expected, actual, strict=False)):
        if ours != theirs:
            return index
    return None if len(expected) == len(actual) else min(len(expected), len(actual))


def median_position(positions: Sequence[int | None]) -> float | None:
    """The median first differing token over the answers; one that never differs counts as later than any.

    Returns:
        None where the middle never differs, so that no number of tokens says how long it holds.
    """
    if not positions:
        return None
    ordered = sorted(math.inf if position is None else float(position) for position in positions)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    middle = (low + high) / 2
    return None if math.isinf(middle) else middle
