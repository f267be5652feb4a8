"""What surrounds a command: launchers' words, signals, other processes, and what the operating system refuses."""

import ctypes
import errno
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from distill.errors import DistillError

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# glibc's mallopt: which option, and the largest values it takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER, _LARGEST_MMAP_THRESHOLD = 2**31 - 1, 32 * 2**20


def keep_freed_memory() -> bool:
    """Lets this process reuse the memory it frees instead of returning it: tensors come and go with every step.

    On a CPU, asking the system for the same pages again and again cost a fifth to a third of the time of generating
    and a tenth of training. The process never holds more than it once needed.

    Returns:
        Whether the C library could be told so: glibc can, others cannot.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _NEVER)) and bool(mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block like Ctrl-C does: what is open is closed, what is half written is removed."""

    def stop(number: int, frame: object) -> NoReturn:
        del number, frame
        raise SystemExit(TERMINATED)

    before: Any = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_unread() -> bool:
    """Whether nobody reads stdout any more, as behind `| head -1`; what is left of it goes nowhere then."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def without_local_rank(words: Sequence[str]) -> list[str]:
    """The command line without what launchers add to it; the rank itself comes in the environment."""
    kept: list[str] = []
    for position, word in enumerate(words):
        is_number_of_flag = word.isdecimal() and position > 0 and re.fullmatch("--local[-_]rank", words[position - 1])
        if not re.fullmatch(r"--local[-_]rank(=\d+)?", word) and not is_number_of_flag:
            kept.append(word)
    return kept


def own_environment(**more: str) -> dict[str, str]:
    """Variables for another Python of this environment, which is to find the modules that this one finds.

    Args:
        more: variables on top.
    """
    return {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry), **more}


def ending(exit_code: int, last_words: str = "") -> str:
    """How a process ended, in words: what it said last, its exit code, or the signal that killed it.

    Args:
        exit_code: as `subprocess` tells it, negative for a signal.
        last_words: the last line of what it wrote.
    """
    if exit_code >= 0:
        return last_words or f"exit code {exit_code}"
    number = -exit_code
    name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
    short = ", as the system does where memory is short" if name == "SIGKILL" else ""
    return f"it was killed by {name}{short}"


def refusal_of_system(error: OSError) -> DistillError:
    """An error of the operating system as what, why and fix."""
    if error.errno in NO_ROOM:
        fix = "free space, or choose another disk with output=DIR; the same command goes on from here"
    elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
        fix = "check who owns it, or choose another folder with output=DIR"
    else:
        fix = "check the path and the disk; the same command goes on from here"
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return DistillError(what, why="the operating system refused", fix=fix)
