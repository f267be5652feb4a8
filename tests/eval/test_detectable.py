import numpy as np
import pytest

from distill.errors import DataError
from eval.detectable import detectable_difference, detectable_paired, detectable_unpaired, standard_error
from eval.scores import Interval


def test_mt_bench_known_answers():
    """Half-width 0.7: SE = 0.7 / 1.95996 = 0.35715; unpaired sqrt(2) * 0.35715 * (1.95996 + 0.84162) = 1.4151.

    Paired, half-widths 0.27 and 0.39: 2.80158 / 1.95996 = 1.42941 times as much: 0.3859 and 0.5575.
    """
    model = Interval(6.2, 5.5, 6.9)
    assert standard_error(model) == pytest.approx(0.35715, abs=1e-5)
    assert detectable_unpaired(model, model) == pytest.approx(1.4151, abs=1e-4)
    assert detectable_paired(Interval(0.2, -0.07, 0.47)) == pytest.approx(0.3859, abs=1e-4)
    assert detectable_paired(Interval(0.2, -0.19, 0.59)) == pytest.approx(0.5575, abs=1e-4)


def test_a_difference_of_that_size_is_found_four_times_in_five():
    """20,000 normal experiments with SE 1: 80 %, give or take 3 standard errors of 0.28 %."""
    estimates = np.random.default_rng(0).normal(detectable_difference(1.0), 1.0, size=20_000)
    assert (np.abs(estimates) > 1.959964).mean() == pytest.approx(0.8, abs=0.0085)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"error": 1.0, "power": 1.0}, "power is 1.0"),
        ({"error": 1.0, "level": 0.0}, "level is 0.0"),
        ({"error": -1.0}, "the standard error is -1.0"),
        ({"error": float("nan")}, "the standard error is nan"),
    ],
)
def test_probabilities_and_errors_are_checked(arguments, message):
    with pytest.raises(DataError, match=message):
        detectable_difference(**arguments)


def test_intervals_are_checked():
    with pytest.raises(DataError, match="an interval from 2 to 1"):
        standard_error(Interval(1.5, 2.0, 1.0))
    with pytest.raises(DataError, match="level is 2"):
        standard_error(Interval(1.5, 1.0, 2.0), level=2)
