import math

import pytest
import torch

from distill.errors import ExportError
from distill.export.stored_tensors import StoredTensor
from distill.export.weight_error import NUM_WORST, relative_rmse, summary, weight_report


def tensor(name, original, values, *, size_bytes=4, kind="F32"):
    original = torch.tensor(original)
    stored = None if values is None else torch.tensor(values)
    return StoredTensor(name, kind, original.numel(), size_bytes, original, stored)


def test_relative_rmse_known_answer():
    """Weights 3, 4 have norm 5; errors 0.3, -0.4 have norm 0.5: a tenth."""
    assert relative_rmse(torch.tensor([3.0, 4.0]), torch.tensor([3.3, 3.6])) == pytest.approx(0.1)


def test_zeros_that_stay_have_no_error_and_others_an_infinite_one():
    assert relative_rmse(torch.zeros(2), torch.zeros(2)) == 0.0
    assert relative_rmse(torch.zeros(2), torch.ones(2)) == math.inf


def test_the_worst_come_first_and_are_ten():
    rows = [tensor(f"t{number:02}", [1.0], [1.0 + number / 100]) for number in range(12)]
    report = summary(rows)
    assert [error.name for error in report.worst_tensors] == [f"t{number:02}" for number in range(11, 1, -1)]
    assert len(report.worst_tensors) == NUM_WORST


def test_bits_count_what_belongs_to_a_tensor():
    """Four weights in 3 bytes and two in 4 bytes: 56 bits over 6 weights; what cannot be read is told."""
    rows = [
        tensor("a", [1.0] * 4, None, size_bytes=3, kind="packed"),
        tensor("b", [1.0, 1.0], [1.0, 1.0], size_bytes=4, kind="F16"),
    ]
    report = summary(rows)
    assert report.bits_per_weight == pytest.approx(56 / 6)
    assert report.num_tensors_by_type == {"F16": 1, "packed": 1}
    assert (report.num_unread_tensors, [error.name for error in report.worst_tensors]) == (1, ["b"])


@pytest.mark.parametrize(("original", "stored"), [([0.0], [1.0]), ([1.0], [math.nan]), ([1.0], [math.inf])])
def test_a_tensor_that_is_broken_is_named(original, stored):
    with pytest.raises(ExportError, match="tensor a, stored as F32, is not what the merged model has"):
        summary([tensor("a", original, stored)])


def test_a_copy_has_no_error(llama_folder):
    report = weight_report(llama_folder, merged_folder=llama_folder)
    assert report.bits_per_weight == 32.0
    assert {error.relative_rmse for error in report.worst_tensors} == {0.0}
