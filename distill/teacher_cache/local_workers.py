"""Several processes of this machine fill one cache; each loads the teacher itself and claims shards."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from distill.data import TokenizedSequence
from distill.errors import CacheError, DistillError
from distill.process import TERMINATED, stopped_by_sigterm
from distill.teacher_cache.reader import TeacherCache
from distill.teacher_cache.settings import CacheSettings
from distill.teacher_cache.shared_progress import SharedProgress
from distill.teacher_cache.teacher_source import TeacherSource
from distill.teacher_cache.worker import score_sequences

log = logging.getLogger(__name__)

MAX_RESTARTS = 3
POLL_INTERVAL_S = 0.5
SECONDS_TO_STOP = 10.0
FAILED = 1


@dataclass(frozen=True)
class Assignment:
    """What every worker of a cache is told; it is pickled."""

    source: TeacherSource
    sequences: tuple[TokenizedSequence, ...]
    settings: CacheSettings
    output_dir: Path
    data_fingerprint: str


@dataclass
class _Slot:
    """One worker's place: the process in it, and what that process says."""

    number: int
    process: SpawnProcess
    news: Connection
    num_restarts: int = 0


def run_workers(
    source: TeacherSource,
    sequences: Sequence[TokenizedSequence],
    *,
    settings: CacheSettings,
    output_dir: Path,
    data_fingerprint: str,
) -> TeacherCache:
    """Fills a cache with `settings.workers` processes, which share the machine's threads and GPUs evenly.

    A process that dies is started again, up to 3 times each; after that the others go on without it. What it was at
    is taken over when its lease is over. Shards hold the same bytes as one worker's with as many threads.

    Args:
        source: where each finds the model.
        sequences: prompts with completions; duplicates count once.
        settings: tiers and sizes; of its workers, no more are started than there can be shards.
        output_dir: the cache's folder.
        data_fingerprint: of what the sequences were tokenized from.

    Raises:
        CacheError: as `score_sequences`, or every worker died.
        DistillError: what a worker refused; the others are stopped.
    """
    num_workers = useful_workers(settings, sequences)
    assignment = Assignment(source.absolute(), tuple(sequences), settings, output_dir.resolve(), data_fingerprint)
    log.info("%s: %d workers with %d threads each", output_dir, num_workers, threads_of_worker(num_workers))
    with SharedProgress(output_dir, settings) as progress, _started(assignment, num_workers) as slots:
        exit_codes = _watched(assignment, slots, progress, num_workers)
        if not progress.is_complete:
            raise CacheError(
                f"the workers on {output_dir} died: {', '.join(exit_codes) or 'none said why'}",
                why="each was started again 3 times; memory that ran out is the usual reason",
                fix=f"cache.workers={max(1, num_workers // 2)}; the same command goes on from here",
            )
    return TeacherCache.open(output_dir)


def useful_workers(settings: CacheSettings, sequences: Sequence[TokenizedSequence]) -> int:
    """The processes asked for, or as many as there can be shards."""
    num_tokens = sum(len(sequence.completion_ids) for sequence in sequences)
    return max(1, min(settings.workers, -(-num_tokens // settings.shard_tokens)))


def threads_of_worker(num_workers: int) -> int:
    """Threads that one of several workers computes with."""
    return max(1, torch.get_num_threads() // num_workers)


@contextmanager
def _started(assignment: Assignment, num_workers: int) -> Iterator[list[_Slot]]:
    """The workers; whatever ends the block ends them too, and they give their claims back."""
    slots: list[_Slot] = []
    try:
        for number in range(num_workers):
            slots.append(_Slot(number, *_spawned(assignment, number, num_workers)))
        yield slots
    finally:
        for slot in slots:
            if slot.process.is_alive():
                slot.process.terminate()
        for slot in slots:
            slot.process.join(SECONDS_TO_STOP)
            if slot.process.is_alive():
                slot.process.kill()
                slot.process.join()
            slot.news.close()


def _watched(assignment: Assignment, slots: list[_Slot], progress: SharedProgress, num_workers: int) -> list[str]:
    """Waits until every worker has ended; starts those again that died. Returns how those ended that were given up."""
    given_up: list[str] = []
    running = list(slots)
    while running:
        wait([part for slot in running for part in (slot.process.sentinel, slot.news)], timeout=POLL_INTERVAL_S)
        for slot in list(running):
            _listen(slot)
            if slot.process.is_alive():
                continue
            slot.process.join()
            _listen(slot)
            code = slot.process.exitcode
            if code == 0:
                running.remove(slot)
            elif slot.num_restarts < MAX_RESTARTS:
                slot.num_restarts += 1
                log.warning("worker %d died (%s); starting it again", slot.number, _named(code))
                slot.news.close()
                slot.process, slot.news = _spawned(assignment, slot.number, num_workers)
            else:
                log.warning("worker %d died again (%s); the others go on without it", slot.number, _named(code))
                given_up.append(f"worker {slot.number} by {_named(code)}")
                running.remove(slot)
        progress.poll()
    return given_up


def _listen(slot: _Slot) -> None:
    """Passes a worker's warnings on, and raises what it refused."""
    with contextlib.suppress(EOFError, OSError):
        while slot.news.poll():
            said = slot.news.recv()
            if isinstance(said, DistillError):
                said.add_note(f"in worker {slot.number}")
                raise said
            name, level, text = said
            logging.getLogger(name).log(level, "worker %d: %s", slot.number, text)


def _named(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


def _spawned(assignment: Assignment, number: int, num_workers: int) -> tuple[SpawnProcess, Connection]:
    """A fresh process: nothing of torch's state, threads and devices is inherited."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    threads = threads_of_worker(num_workers)
    process = context.Process(
        target=_serve, args=(assignment, number, threads, theirs), name=f"cache worker {number}", daemon=True
    )
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        process.start()
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
    theirs.close()
    return process, ours


def _serve(assignment: Assignment, number: int, num_threads: int, news: Connection) -> None:
    """What a worker does: all that `score_sequences` does in one process; the last to finish finishes for all."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends its workers in order
    torch.set_num_threads(num_threads)
    logger = logging.getLogger("distill")
    logger.addHandler(_ToParent(news))
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        with stopped_by_sigterm():
            score_sequences(
                assignment.source.load(worker=number),
                assignment.sequences,
                settings=assignment.settings,
                output_dir=assignment.output_dir,
                data_fingerprint=assignment.data_fingerprint,
            )
    except DistillError as error:
        news.send(error)
        raise SystemExit(FAILED) from None
    except SystemExit:
        raise SystemExit(TERMINATED) from None


def _end_with_parent() -> None:
    """Ends this worker when the process that started it was killed: who started it takes the job to be over."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


class _ToParent(logging.Handler):
    """Hands a worker's warnings to the process that started it, the one that logs."""

    def __init__(self, news: Connection) -> None:
        super().__init__()
        self._news = news

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one line; a parent that is gone reads no more."""
        with contextlib.suppress(OSError):
            self._news.send((record.name, record.levelno, record.getMessage()))
