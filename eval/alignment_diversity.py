"""What an aligned model gained and what it gave up: the diversity of its answers, and cells of its table."""

from collections.abc import Sequence
from itertools import pairwise

from eval.scores import Interval


def distinct_share(answers: Sequence[str]) -> float:
    """Different answers of one prompt over all of them: 1 where no two are alike."""
    return len(set(answers)) / len(answers)


def distinct_bigrams(answers: Sequence[str]) -> float:
    """Different pairs of neighbouring words over all such pairs, of all answers together; 0 where there are none.

    Source:
        distinct-2 of Li et al. 2016, arXiv:1510.03055, sec. 4.3.
    """
    words = [answer.split() for answer in answers]
    pairs = [pair for own in words for pair in pairwise(own)]
    return len(set(pairs)) / len(pairs) if pairs else 0.0


def shown(interval: Interval, *, digits: int = 3) -> str:
    """Mean and interval in a table's cell."""
    return f"{interval.mean:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"
