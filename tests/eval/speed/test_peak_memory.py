import mmap

import pytest
import torch

from distill import memory as process_memory
from eval.speed.peak_memory import PeakMemory, with_state

MIB = 2**20


def touched(num_bytes: int) -> None:
    """Fills memory and gives it back to the system."""
    with mmap.mmap(-1, num_bytes) as pages:
        for _ in range(num_bytes // MIB):
            pages.write(b"." * MIB)


@pytest.mark.skipif(not process_memory._CLEAR.exists(), reason="the system cannot start a peak anew")
def test_the_peak_counts_what_came_and_went_since():
    """Pages from the system itself: an allocator may hand out again what it kept of earlier work."""
    touched(64 * MIB)
    memory = PeakMemory()
    touched(32 * MIB)
    assert 31 * MIB < memory.above_level_bytes < 50 * MIB
    assert memory.raw_bytes >= memory.level_bytes + 31 * MIB


def test_state_that_stands_beforehand_changes_no_update():
    """AdamW with moments made here and AdamW that makes its own: the same weights after three steps."""
    found = []
    for is_made in (True, False):
        weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        optimizer = torch.optim.AdamW([weight], lr=0.1)
        if is_made:
            with_state(optimizer)
            assert set(optimizer.state[weight]) == {"step", "exp_avg", "exp_avg_sq"}
        for scale in (1.0, -0.5, 2.0):
            weight.grad = scale * torch.tensor([0.1, 0.2, -0.3])
            optimizer.step()
        found.append(weight.detach())
    assert torch.equal(found[0], found[1])


def test_state_that_is_there_stays():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones(2)
    optimizer.step()
    with_state(optimizer)
    assert float(optimizer.state[weight]["step"]) == 1.0
