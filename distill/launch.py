"""`--nproc N`: one command as N ranks of this machine, which end together and say once what went wrong."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from distill.errors import DistillError, RecipeError, StageError
from distill.process import INTERRUPTED, TERMINATED

PROGRAM = (sys.executable, "-m", "distill")
STOPPED = (INTERRUPTED, TERMINATED)
FOLDER_VARIABLE = "DISTILL_LAUNCH_FOLDER"
POLL_INTERVAL_S = 0.1
SECONDS_TO_AGREE = 5.0  # for the ranks that go wrong after the first: its fault reaches them, or they have the same
SECONDS_TO_STOP = 20.0
NUM_TOLD_CHARACTERS = 4000


@dataclass(frozen=True)
class Rank:
    """One process of a launch."""

    number: int
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class Failure:
    """How a rank ended, from the best account to the worst: its refusal, a signal, a traceback, a bare exit code."""

    grade: int
    rank: int
    message: str
    exit_code: int


def require_launchable(num_processes: int, *, num_gpus: int, environment: Mapping[str, str]) -> None:
    """Refuses ranks of ranks, and ranks that have no device of their own.

    Args:
        num_processes: `--nproc`.
        num_gpus: that this machine has; 0: the ranks share the CPU.
        environment: of this process.

    Raises:
        RecipeError: a launcher started this process, or the ranks outnumber the GPUs.
    """
    found = [f"{name}={environment[name]}" for name in ("RANK", "WORLD_SIZE") if name in environment]
    if found:
        raise RecipeError(
            f"--nproc is {num_processes}, and a launcher started this process already ({', '.join(found)})",
            why="each of its ranks would start ranks of its own",
            fix="leave --nproc out; the launcher says how many ranks there are",
        )
    if 0 < num_gpus < num_processes:
        raise RecipeError(
            f"--nproc is {num_processes}, and this machine has {num_gpus} GPU(s)",
            why="each rank computes on a GPU of its own",
            fix=f"--nproc {num_gpus}; for more machines than one use torchrun (docs/training.md)",
        )


def launch(
    words: Sequence[str], *, num_processes: int, is_shown: bool = True, program: Sequence[str] = PROGRAM
) -> None:
    """Runs `distill WORDS` as so many ranks, and returns when all have ended well.

    Rank 0 has this process' stdout and stderr. SIGINT and SIGTERM reach every rank; when one fails or is killed, the
    others are stopped; when this process is killed, they stop by themselves.

    Args:
        words: the command line after `distill`, without `--nproc`.
        num_processes: 1: a plain process, no rank.
        is_shown: whether the results are printed.
        program: what takes these words.

    Raises:
        DistillError: what a rank refused, with its exit code.
        StageError: a rank was killed, or broke.
    """
    with tempfile.TemporaryDirectory(prefix="distill-ranks-") as name:
        folder = Path(name)
        with _started([*program, *words], num_processes, folder=folder, is_shown=is_shown) as ranks:
            while all(rank.process.poll() in (None, 0) for rank in ranks) and _are_running(ranks):
                time.sleep(POLL_INTERVAL_S)
            _wait(ranks, SECONDS_TO_AGREE if _failures(ranks, folder=folder) else 0.0)
            failures = _failures(ranks, folder=folder)
        if failures:
            raise _error_of(failures)


def rank_environment(number: int, num_processes: int, *, port: int, folder: Path) -> dict[str, str]:
    """What a rank finds in its environment: a launcher's variables, and its share of the machine's threads."""
    environment = os.environ | {FOLDER_VARIABLE: str(folder)}
    if num_processes == 1:
        return environment
    named = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": num_processes, "LOCAL_WORLD_SIZE": num_processes}
    environment |= {name: str(value) for name, value in named.items()}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, _num_cores() // num_processes)))
    return environment


# In a rank


def is_launched() -> bool:
    """Whether `launch` started this process."""
    return FOLDER_VARIABLE in os.environ


def heed_launcher() -> None:
    """Lets this rank hand its last words to the launcher, and end when the launcher is gone."""
    sys.excepthook = _tell_traceback
    threading.Thread(target=_end_with_launcher, name="launcher", daemon=True).start()


def tell_launcher(error: DistillError) -> None:
    """Hands over what this rank refused; the launcher says it, once for all ranks."""
    lines = [str(error), *getattr(error, "__notes__", ())]
    _tell("\n".join(lines), grade=0, exit_code=error.exit_code)


def _tell_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    _tell(text.strip(), grade=2, exit_code=1)


def _tell(message: str, *, grade: int, exit_code: int) -> None:
    number = int(os.environ.get("RANK", "0"))
    told = Failure(grade, number, message, exit_code)
    with contextlib.suppress(OSError):  # the launcher is gone, and nobody reads
        _message_path(Path(os.environ[FOLDER_VARIABLE]), number).write_text(json.dumps(told.__dict__))


def _end_with_launcher() -> None:
    """The launcher holds the other end of stdin, which the system closes however that process ends."""
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_STOP)
    os._exit(TERMINATED)


# In the launcher


@contextmanager
def _started(command: Sequence[str], num_processes: int, *, folder: Path, is_shown: bool) -> Iterator[list[Rank]]:
    """The ranks; whatever ends the block ends them too."""
    port, ranks = _free_port(), list[Rank]()
    number = signal.SIGTERM
    try:
        for place in range(num_processes):
            ranks.append(_spawned(command, place, num_processes, port=port, folder=folder, is_shown=is_shown))
        yield ranks
    except KeyboardInterrupt:
        number = signal.SIGINT
        raise
    finally:
        try:
            for rank in ranks:
                if rank.process.poll() is None:
                    rank.process.send_signal(number)
            _wait(ranks, SECONDS_TO_STOP)
        finally:
            for rank in ranks:
                rank.process.kill()
                rank.process.wait()
                assert rank.process.stdin is not None
                rank.process.stdin.close()


def _spawned(
    command: Sequence[str], number: int, num_processes: int, *, port: int, folder: Path, is_shown: bool
) -> Rank:
    """A rank in a session of its own: Ctrl-C reaches this process alone, which passes it on once."""
    with _output_path(folder, number).open("wb") as hidden:
        process = subprocess.Popen(
            command,
            env=rank_environment(number, num_processes, port=port, folder=folder),
            stdin=subprocess.PIPE,
            stdout=None if number == 0 and is_shown else hidden,
            stderr=None if number == 0 else hidden,
            start_new_session=True,
        )
    return Rank(number, process)


def _are_running(ranks: Sequence[Rank]) -> bool:
    return any(rank.process.poll() is None for rank in ranks)


def _wait(ranks: Sequence[Rank], seconds: float) -> None:
    """Returns when all ranks have ended, or the time is over."""
    deadline = time.monotonic() + seconds
    while _are_running(ranks) and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)


def _failures(ranks: Sequence[Rank], *, folder: Path) -> list[Failure]:
    """How those ranks ended that did not end well, the best account first."""
    return sorted(
        (_failure_of(rank, folder=folder) for rank in ranks if rank.process.poll() not in (None, 0)),
        key=lambda failure: (failure.grade, failure.rank),
    )


def _failure_of(rank: Rank, *, folder: Path) -> Failure:
    code = rank.process.returncode
    with contextlib.suppress(OSError, ValueError):
        return Failure(**json.loads(_message_path(folder, rank.number).read_text()))
    last = _output_path(folder, rank.number).read_text(errors="replace")[-NUM_TOLD_CHARACTERS:].strip()
    if code < 0:
        return Failure(1, rank.number, f"was killed by {signal.Signals(-code).name}\n{last}", 128 - code)
    return Failure(1 if code in STOPPED else 3, rank.number, f"ended with exit code {code}\n{last}", code)


def _error_of(failures: Sequence[Failure]) -> DistillError:
    """What to tell: the best account, and whose it is where rank 0 does not say the same."""
    best = failures[0]
    if best.exit_code in STOPPED:
        raise SystemExit(best.exit_code)
    if best.grade == 0:
        error = DistillError(best.message)
        error.exit_code = best.exit_code
        if not any(failure.rank == 0 and failure.message == best.message for failure in failures):
            error.add_note(f"in rank {best.rank}")
        return error
    what, _, why = best.message.partition("\n") if best.grade != 2 else ("broke", "", best.message)
    return StageError(
        f"rank {best.rank} {what}",
        why=why or "the system ends a process when memory runs out; someone may also have ended it",
        fix="the same command goes on from the last checkpoint; where memory ran out, with a smaller"
        " max_tokens_per_pass",
    )


def _message_path(folder: Path, number: int) -> Path:
    return folder / f"{number}.json"


def _output_path(folder: Path, number: int) -> Path:
    return folder / f"{number}.txt"


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
