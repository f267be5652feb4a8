"""Trainers on the clock, each in a process of its own, one at a time: A and B take turns of some steps each.

A process builds its trainer, says so, and then waits for orders; one that waits takes no processor time. What it
builds, takes and holds is its own, so that the peak memory of one is not that of another. All are forked from one
process that has the libraries of every trainer loaded (`preloaded`): no clock counts an import, and each begins at the
same level.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from distill.errors import DistillError
from distill.process import keep_freed_memory
from eval.speed.peak_memory import PeakMemory, with_state

Answer = TypeVar("Answer")
NO_STEPS = 0
PATIENCE_S = 30.0
PRELOADED = "eval.speed.preloaded"


@dataclass(frozen=True)
class Built:
    """A trainer whose model and optimizer stand."""

    level_bytes: int


@dataclass(frozen=True)
class Block:
    """Some steps in a row; memory is the peak of all steps so far, above the level when the trainer was built."""

    losses: tuple[float, ...]
    elapsed_s: float
    cpu_s: float
    step_bytes: int
    raw_bytes: int


class StepServer:
    """The trainer's end: its loop says when it is built and when a step is done, and is held up until ordered on.

    The clock runs from the order to the end of the last step: the batches of all ordered steps are made meanwhile.
    """

    def __init__(self, connection: Connection, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._connection, self._clock = connection, clock
        self._memory: PeakMemory | None = None
        self._losses: list[float] = []
        self._left = 0

    def built(self, optimizer: torch.optim.Optimizer | None = None) -> bool:
        """Model and optimizer stand; returns whether steps are wanted."""
        if optimizer is not None:
            with_state(optimizer)
        self._memory = PeakMemory()
        self._connection.send(Built(self._memory.level_bytes))
        return self._is_ordered_on()

    def stepped(self, loss: float) -> bool:
        """One step is done; returns whether another one is wanted."""
        self._losses.append(loss)
        self._left -= 1
        if self._left > 0:
            return True
        elapsed_s, cpu_s = self._clock() - self._started, time.process_time() - self._cpu_started
        assert self._memory is not None, "built() comes first"
        self._connection.send(
            Block(tuple(self._losses), elapsed_s, cpu_s, self._memory.above_level_bytes, self._memory.raw_bytes)
        )
        return self._is_ordered_on()

    def _is_ordered_on(self) -> bool:
        self._left, self._losses = self._connection.recv(), []
        self._started, self._cpu_started = self._clock(), time.process_time()
        return self._left > 0


StepLoop = Callable[[StepServer], None]
"""Trains until the server wants no more; sent to its process by pickle, so a function of a module or a `partial`."""


@dataclass
class Measured:
    """The blocks of one trainer, the warm-up's apart."""

    level_bytes: int = 0
    warm_up: Block | None = None
    blocks: list[Block] = field(default_factory=list)

    @property
    def step_bytes(self) -> int:
        """Peak above the level over all steps, the warm-up's too."""
        return max(block.step_bytes for block in self._all)

    @property
    def raw_bytes(self) -> int:
        """Peak of the process, over all it did."""
        return max(block.raw_bytes for block in self._all)

    @property
    def losses(self) -> list[float]:
        """Of every step, the warm-up's first."""
        return [loss for block in self._all for loss in block.losses]

    @property
    def _all(self) -> list[Block]:
        return self.blocks if self.warm_up is None else [self.warm_up, *self.blocks]


def in_turn(
    loops: Mapping[str, StepLoop],
    *,
    num_warm_up: int,
    num_steps: int,
    num_repeats: int,
    num_threads: int,
    after_warm_up: Callable[[Mapping[str, Measured]], None] = lambda measured: None,
) -> dict[str, Measured]:
    """Steps of every trainer, `num_warm_up` first, then `num_repeats` rounds of `num_steps` each in turn.

    Args:
        loops: the trainers, by name.
        num_warm_up: steps that no clock counts.
        num_steps: of one turn.
        num_repeats: rounds.
        num_threads: of each process.
        after_warm_up: looks at the warm-ups and may refuse to go on.

    Raises:
        DistillError: a trainer's process ended early; names it.
    """
    measured = {name: Measured() for name in loops}
    with _started(loops, num_threads=num_threads) as children:
        for name, child in children.items():
            child.begin()
            measured[name].level_bytes = child.answer(Built).level_bytes
        for name, child in children.items():
            measured[name].warm_up = child.block(num_warm_up)
        after_warm_up(measured)
        for _ in range(num_repeats):
            for name, child in children.items():
                measured[name].blocks.append(child.block(num_steps))
    return measured


def alone(work: Callable[[], Answer], kind: type[Answer], *, num_threads: int) -> Answer:
    """The result of `work` in a fresh process that does nothing else.

    Raises:
        DistillError: the process ended early.
    """
    child = _Child.started("the job", _work, work, num_threads)
    try:
        child.begin()
        return child.answer(kind)
    finally:
        child.stop()


@dataclass
class _Child:
    name: str
    process: Any
    connection: Connection

    @staticmethod
    def started(name: str, target: Callable[..., None], work: object, num_threads: int) -> "_Child":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([PRELOADED])
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(theirs, work, num_threads), name=name)
        process.start()
        theirs.close()
        return _Child(name, process, ours)

    def begin(self) -> None:
        """Lets it build; the processes do so one after another."""
        self.connection.send("begin")

    def answer(self, kind: type[Answer]) -> Answer:
        try:
            found = self.connection.recv()
        except EOFError as error:
            raise DistillError(f"{self.name} ended before it answered", why="its own error stands above") from error
        assert isinstance(found, kind)
        return found

    def block(self, num_steps: int) -> Block:
        self.connection.send(num_steps)
        return self.answer(Block)

    def stop(self) -> None:
        """Lets the process end; one that is at something else is ended."""
        with suppress(OSError):
            self.connection.send(NO_STEPS)
        self.process.join(timeout=PATIENCE_S)
        self.process.terminate()
        self.process.join()
        self.connection.close()


@contextmanager
def _started(loops: Mapping[str, StepLoop], *, num_threads: int) -> Iterator[dict[str, _Child]]:
    children: dict[str, _Child] = {}
    try:
        for name, loop in loops.items():
            children[name] = _Child.started(name, _serve, loop, num_threads)
        yield children
    finally:
        for child in children.values():
            child.stop()


def _serve(connection: Connection, loop: StepLoop, num_threads: int) -> None:
    _in_child(connection, lambda: loop(StepServer(connection)), num_threads)


def _work(connection: Connection, work: Callable[[], object], num_threads: int) -> None:
    _in_child(connection, lambda: connection.send(work()), num_threads)


def _in_child(connection: Connection, run: Callable[[], None], num_threads: int) -> None:
    connection.recv()
    torch.set_num_threads(num_threads)
    keep_freed_memory()
    run()
