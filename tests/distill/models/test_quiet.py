import warnings

import pytest
from transformers.utils import logging

from distill.models.quiet import quietly


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


def test_future_warnings_are_silenced_and_others_are_not():
    with quietly():
        warnings.warn("old name", FutureWarning, stacklevel=1)
    with pytest.raises(UserWarning, match="real"), quietly():
        warnings.warn("real", UserWarning, stacklevel=1)
