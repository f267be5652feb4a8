import os
import warnings

import pytest
import torch
from transformers.utils import logging

from distill.models.quiet import name_deepspeed_accelerator, quietly


def test_bars_are_off_inside_and_as_before_outside():
    logging.enable_progress_bar()
    with quietly():
        assert not logging.is_progress_bar_enabled()
    assert logging.is_progress_bar_enabled()


def test_bars_come_back_after_an_error():
    logging.enable_progress_bar()
    with pytest.raises(KeyError), quietly():
        raise KeyError
    assert logging.is_progress_bar_enabled()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_deepspeed_is_told_of_a_cpu_and_a_choice_made_before_stands(monkeypatch):
    monkeypatch.delenv("DS_ACCELERATOR")
    with quietly():
        assert os.environ["DS_ACCELERATOR"] == "cpu"
    monkeypatch.setenv("DS_ACCELERATOR", "xpu")
    name_deepspeed_accelerator()
    assert os.environ["DS_ACCELERATOR"] == "xpu"


def test_future_warnings_are_silenced_and_others_are_not():
    with quietly():
        warnings.warn("old name", FutureWarning, stacklevel=1)
    with pytest.raises(UserWarning, match="real"), quietly():
        warnings.warn("real", UserWarning, stacklevel=1)
