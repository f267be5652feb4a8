"""The smallest difference that a comparison of this size would find four times out of five."""

from scipy.stats import norm

from distill.errors import DataError
from eval.scores import Interval


def standard_error(interval: Interval, *, level: float = 0.95) -> float:
    """The standard error that a symmetric normal interval of this width has.

    Raises:
        DataError: a level outside (0, 1), or ends in the wrong order.
    """
    if not 0.0 < level < 1.0:
        raise DataError(f"level is {level}", why="a probability between 0 and 1 was expected", fix="level=0.95")
    if not interval.low <= interval.high:
        raise DataError(f"an interval from {interval.low:g} to {interval.high:g}", why="its ends are exchanged")
    return (interval.high - interval.low) / (2.0 * float(norm.ppf((1.0 + level) / 2.0)))


def detectable_difference(error: float, *, power: float = 0.8, level: float = 0.95) -> float:
    r"""The true difference at which a two-sided test finds one with probability `power`.

    .. math:: (z_{(1 + level)/2} + z_{power}) \cdot \mathrm{SE}

    Args:
        error: standard error of the difference.
        power: share of repetitions that should find it.
        level: 1 minus the size of the test.

    Raises:
        DataError: a probability outside (0, 1), or a negative standard error.

    Source:
        Bloom 1995, Evaluation Review 19(5), 547-556.
    """
    for name, value in (("power", power), ("level", level)):
        if not 0.0 < value < 1.0:
            raise DataError(f"{name} is {value}", why="a probability between 0 and 1 was expected")
    if not error >= 0.0:
        raise DataError(f"the standard error is {error}", why="a number of at least 0 was expected")
    return float(norm.ppf((1.0 + level) / 2.0) + norm.ppf(power)) * error


def detectable_unpaired(first: Interval, second: Interval, *, power: float = 0.8, level: float = 0.95) -> float:
    """Of two models on different questions, or as if: their errors add in squares.

    Raises:
        DataError: what `standard_error` and `detectable_difference` refuse.
    """
    squares = standard_error(first, level=level) ** 2 + standard_error(second, level=level) ** 2
    return detectable_difference(squares**0.5, power=power, level=level)


def detectable_paired(difference: Interval, *, power: float = 0.8, level: float = 0.95) -> float:
    """Of two models on the same questions, from the interval of their paired difference.

    Raises:
        DataError: what `standard_error` and `detectable_difference` refuse.
    """
    return detectable_difference(standard_error(difference, level=level), power=power, level=level)
