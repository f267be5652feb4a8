import errno
import os
import platform
import signal
import subprocess
import sys

import pytest

from distill.process import (
    TERMINATED,
    ending,
    keep_freed_memory,
    own_environment,
    refusal_of_system,
    stopped_by_sigterm,
    without_local_rank,
)

PAGE_FAULTS = """
import resource
from distill.process import keep_freed_memory

def faults(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(count):
        bytearray(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults(20)
assert keep_freed_memory()
faults(2)
print(first, faults(20))
"""


@pytest.mark.parametrize(
    "added", [["--local_rank=1"], ["--local-rank=12"], ["--local_rank", "1"], ["--local-rank", "0"]]
)
def test_what_a_launcher_adds_is_left_out_wherever_it_stands(added: list[str]):
    words = ["train", "recipe.yaml", "seed=1", "7"]
    for place in range(len(words) + 1):
        assert without_local_rank([*words[:place], *added, *words[place:]]) == words


def test_what_only_looks_like_a_rank_stays():
    words = ["run", "local_rank=1", "--local_ranks=1", "--local_rank=x"]
    assert without_local_rank(words) == words


def _stopped(closed: list[bool]) -> None:
    with stopped_by_sigterm():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            closed.append(True)


def test_sigterm_closes_what_is_open_and_the_old_handler_comes_back():
    before, closed = signal.getsignal(signal.SIGTERM), list[bool]()
    with pytest.raises(SystemExit) as stop:
        _stopped(closed)
    assert stop.value.code == TERMINATED == 143
    assert closed
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EDQUOT, "free space"),
        (errno.EACCES, "check who owns it"),
        (errno.EROFS, "check who owns it"),
        (errno.EIO, "check the path and the disk"),
    ],
)
def test_what_the_system_refuses_has_a_fix(number: int, fix: str):
    error = refusal_of_system(OSError(number, os.strerror(number), "/some/file"))
    assert error.what == f"/some/file: {os.strerror(number)}"
    assert error.fix.startswith(fix)
    assert error.exit_code == 1


def test_an_error_without_a_file_is_told_too():
    assert refusal_of_system(OSError("broken")).what == "broken"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep freed memory")
def test_freed_memory_is_used_again_without_new_pages():
    finished = subprocess.run([sys.executable, "-c", PAGE_FAULTS], capture_output=True, text=True, check=True)
    before, after = map(int, finished.stdout.split())
    assert after < before / 10


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()


def test_how_a_process_ended_is_told_whatever_the_signal():
    assert ending(1, "MemoryError") == "MemoryError"
    assert ending(3) == "exit code 3"
    assert ending(-signal.SIGSEGV, "noise") == "it was killed by SIGSEGV"
    assert ending(-signal.SIGKILL) == "it was killed by SIGKILL, as the system does where memory is short"
    assert ending(-40) == "it was killed by signal 40"  # a real-time signal, which has no name


def test_another_python_finds_what_this_one_finds(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    program = "import only_here, os; print(os.environ['MORE'])"
    done = subprocess.run([sys.executable, "-P", "-c", program], env=own_environment(MORE="1"), capture_output=True)
    assert done.stdout.strip() == b"1"
