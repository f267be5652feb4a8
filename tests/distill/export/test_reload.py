import pytest
import torch

from distill.errors import ExportError
from distill.export.reload import LOGIT_TOLERANCE, largest_difference, probe_logits
from distill.models import load_model


def test_the_largest_difference_is_returned():
    expected, actual = torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)
    actual[0, 1, 2] = -LOGIT_TOLERANCE / 2
    assert largest_difference(expected, actual, what="x") == pytest.approx(LOGIT_TOLERANCE / 2)


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf")])
def test_other_logits_are_refused(value):
    actual = torch.zeros(1, 2, 3)
    actual[0, 0, 0] = value
    with pytest.raises(ExportError, match="the model: logits differ by"):
        largest_difference(torch.zeros(1, 2, 3), actual, what="the model")


def test_a_model_is_always_asked_the_same(llama_folder):
    first, second = (probe_logits(load_model(llama_folder).model) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape[-1] == load_model(llama_folder).model.config.vocab_size
