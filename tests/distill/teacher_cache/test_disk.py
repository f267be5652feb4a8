import errno
import os
from pathlib import Path

import pytest

from distill.errors import CacheError
from distill.teacher_cache.disk import room_for


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_says_what_is_needed(code: int):
    message = rf"no room for .*00003.*{os.strerror(code)}"
    with (
        pytest.raises(CacheError, match=message) as caught,
        room_for(Path("00003.safetensors"), needed_bytes=2_500_000, left_bytes=7_250_000_000),
    ):
        raise OSError(code, os.strerror(code))
    assert "this file takes 2.50 MB, all that is still to be written 7.25 GB" in caught.value.why
    assert "goes on from here" in caught.value.fix


def test_any_other_trouble_passes_through():
    with pytest.raises(PermissionError), room_for(Path("x"), needed_bytes=1, left_bytes=1):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(999, "999 bytes"), (1_500, "1.50 kB"), (2_000_000, "2.00 MB"), (3_140_000_000, "3.14 GB")]
)
def test_sizes_are_said_in_the_largest_unit_that_fits(num_bytes: int, text: str):
    with pytest.raises(CacheError) as caught, room_for(Path("x"), needed_bytes=num_bytes, left_bytes=0):
        raise OSError(errno.ENOSPC, "full")
    assert f"this file takes {text}," in caught.value.why
