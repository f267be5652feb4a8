import math

import pytest

from distill.errors import DataError


def test_a_known_divergence(load_metric):
    """p = (1/2, 1/2), q = (1/4, 3/4): KL = 1/2 ln 4/3, total variation 1/4; the second position is equal."""
    teacher = [[math.log(0.5), math.log(0.5)], [0.0, math.log(3.0)]]
    student = [[math.log(0.25), math.log(0.75)], [1.0, 1.0 + math.log(3.0)]]
    result = load_metric("distribution_fidelity").compute(predictions=student, references=teacher)
    assert result["kl_nats"] == pytest.approx(0.25 * math.log(4 / 3), abs=1e-6)
    assert result["total_variation"] == pytest.approx(0.125, abs=1e-6)
    assert result["top1_agreement"] == 0.5


def test_rows_over_two_vocabularies_are_refused(load_metric):
    with pytest.raises(DataError, match=r"rows of \[2, 3\] columns"):
        load_metric("distribution_fidelity").compute(predictions=[[0.0, 1.0]], references=[[0.0, 1.0, 2.0]])
