import mmap

import pytest

from distill import memory
from distill.memory import peak_bytes, resident_bytes, restart_peak, status_bytes

MIB = 2**20


def touched(num_bytes: int) -> None:
    """Fills memory and gives it back to the system."""
    with mmap.mmap(-1, num_bytes) as pages:
        for _ in range(num_bytes // MIB):
            pages.write(b"." * MIB)


@pytest.mark.skipif(not memory._CLEAR.exists(), reason="the system cannot start a peak anew")
def test_a_peak_that_was_started_anew_forgets_what_came_before():
    touched(64 * MIB)
    before = peak_bytes()
    assert restart_peak()
    level = peak_bytes()
    assert level < before - 32 * MIB
    touched(16 * MIB)
    assert 15 * MIB < peak_bytes() - level < 32 * MIB


@pytest.mark.skipif(not memory._STATUS.exists(), reason="the system does not say")
def test_what_is_held_is_told_in_bytes_and_unknown_figures_are_none():
    assert MIB < resident_bytes() <= peak_bytes()
    assert status_bytes("VmRSS") % 1024 == 0
    assert status_bytes("NoSuchFigure") is None


def test_without_proc_the_peak_of_the_whole_process_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "none")
    assert not restart_peak()
    assert status_bytes("VmRSS") is None
    assert resident_bytes() == peak_bytes() > MIB
