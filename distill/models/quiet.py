"""Keeps transformers', peft's and DeepSpeed's own progress bars and notices off the screen."""

import logging as python_logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# What tells, where torchao is installed, that its GPU kernels do not load on a CPU, and of torch's own deprecations.
_TALKATIVE = ("torchao", "torch.utils._pytree")


@contextmanager
def quietly() -> Iterator[None]:
    """Silences transformers' progress bars, and warnings about the deprecated names that peft uses of it.

    transformers imports DeepSpeed when it saves a model, so DeepSpeed learns here what it runs on.
    """
    from transformers.utils import logging

    name_deepspeed_accelerator()
    for name in _TALKATIVE:
        python_logging.getLogger(name).setLevel(python_logging.ERROR)
    shows_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if shows_bars:
            logging.enable_progress_bar()


def name_deepspeed_accelerator() -> None:
    """Tells DeepSpeed, before its import, that it runs on a CPU; left to find out, it warns on stdout."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
