import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from distill.errors import TrainingError
from distill.training.disk import told_if_unwritable

WEIGHTS = {"weight": torch.zeros(100_000)}
WRITES: dict[str, Callable[[Path], object]] = {
    "torch": lambda path: torch.save(WEIGHTS, path),
    "safetensors": lambda path: save_file(WEIGHTS, path),
    "plain": lambda path: path.write_bytes(bytes(400_000)),
}


def written_on_a_full_disk(kind: str, path: Path) -> None:
    """A limit of 4 KiB a file stands for the full disk: the system refuses in the middle of the write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with told_if_unwritable("the weights", path.parent):
            WRITES[kind](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_that_fails_is_told(tmp_path: Path, kind: str):
    with pytest.raises(TrainingError, match=r"the weights cannot be written: .*\nwhy: \d+\.\d\d GiB are free in"):
        written_on_a_full_disk(kind, tmp_path / "weights")


def test_what_is_written_is_not_in_the_way(tmp_path: Path):
    with told_if_unwritable("the file", tmp_path):
        (tmp_path / "file").write_text("here")
    assert (tmp_path / "file").read_text() == "here"


@pytest.mark.parametrize(
    "error", [RuntimeError("[gloo] Connection closed by peer"), torch.OutOfMemoryError("CUDA out of memory")]
)
def test_a_lost_rank_or_a_full_device_is_no_full_disk(tmp_path: Path, error: Exception):
    with pytest.raises(type(error)) as caught, told_if_unwritable("the weights", tmp_path):
        raise error
    assert caught.value is error
