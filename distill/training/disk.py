"""Disks that fill up while something is written."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from distill.errors import TrainingError

TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "unexpected pos")
"""What torch says when a file cannot be written."""


@contextmanager
def told_if_unwritable(what: str, folder: Path) -> Iterator[None]:
    """Tells of a failed write with the room that is left; torch raises a RuntimeError, safetensors one of its own.

    Args:
        what: is being written in the block.
        folder: where; it exists.

    Raises:
        TrainingError: it cannot be written.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # A lost rank and a full device are RuntimeErrors, too.
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in TORCH_WRITER):
            raise
        raise TrainingError(
            f"{what} cannot be written: {error}",
            why=f"{shutil.disk_usage(folder).free / 2**30:.2f} GiB are free in {folder}; earlier checkpoints are sound",
            fix="free some space and start again: training goes on from the newest checkpoint",
        ) from error
