"""Keeps transformers' and peft's own progress bars and notices off the screen."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """Silences transformers' progress bars, and warnings about the deprecated names that peft uses of it."""
    from transformers.utils import logging

    shows_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shows_bars:
            logging.enable_progress_bar()
