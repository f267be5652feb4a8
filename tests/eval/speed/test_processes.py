import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distill.errors import DistillError
from eval.speed.processes import Block, Built, Measured, StepServer, alone, in_turn


@dataclass
class Orders:
    """A connection that holds orders and keeps what was sent."""

    orders: list[int]
    sent: list[Any] = field(default_factory=list)

    def recv(self) -> int:
        return self.orders.pop(0)

    def send(self, answer: object) -> None:
        self.sent.append(answer)


def count(server: StepServer) -> None:
    goes_on, number = server.built(), 0
    while goes_on:
        number += 1
        goes_on = server.stepped(float(number))


def leave_marks(folder: Path, name: str, server: StepServer) -> None:
    goes_on = server.built()
    while goes_on:
        with (folder / "marks").open("a") as marks:
            marks.write(name)
        goes_on = server.stepped(0.0)


def die(server: StepServer) -> None:
    server.built()
    raise SystemExit(3)


def test_a_server_answers_with_the_losses_of_the_steps_ordered():
    connection = Orders([2, 3, 0])
    count(StepServer(connection))  # type: ignore[arg-type]
    built, first, second = connection.sent
    assert isinstance(built, Built)
    assert built.level_bytes > 0
    assert (first.losses, second.losses) == ((1.0, 2.0), (3.0, 4.0, 5.0))
    assert second.elapsed_s > 0
    assert second.raw_bytes >= first.raw_bytes > 0


def test_the_clock_stands_between_orders():
    """A wait for orders takes 100 seconds, a step 1."""
    now = [0.0]

    class Slow(Orders):
        def recv(self) -> int:
            now[0] += 100.0
            return super().recv()

    def take(server: StepServer) -> None:
        goes_on = server.built()
        while goes_on:
            now[0] += 1.0
            goes_on = server.stepped(0.0)

    connection = Slow([1, 3, 0])
    take(StepServer(connection, clock=lambda: now[0]))  # type: ignore[arg-type]
    assert [block.elapsed_s for block in connection.sent[1:]] == [1.0, 3.0]


def test_measured_memory_is_the_highest_of_all_blocks():
    def block(step_bytes: int, raw_bytes: int) -> Block:
        return Block((0.0,), 1.0, 1.0, step_bytes, raw_bytes)

    measured = Measured(1, block(7, 20), [block(3, 30), block(5, 10)])
    assert (measured.step_bytes, measured.raw_bytes) == (7, 30)
    assert measured.losses == [0.0, 0.0, 0.0]


@pytest.mark.slow
def test_processes_take_turns_after_the_warm_up(tmp_path: Path):
    seen: list[set[str]] = []
    loops = {name: partial(leave_marks, tmp_path, name) for name in "ab"}
    measured = in_turn(
        loops,
        num_warm_up=1,
        num_steps=2,
        num_repeats=2,
        num_threads=1,
        after_warm_up=lambda found: seen.append(set(found)),
    )
    assert (tmp_path / "marks").read_text() == "ab" + "aabb" * 2
    assert seen == [{"a", "b"}]
    assert all(len(found.blocks) == 2 and found.warm_up is not None for found in measured.values())


@pytest.mark.slow
def test_a_trainer_that_dies_is_named():
    with pytest.raises(DistillError, match="unlucky ended before it answered"):
        in_turn({"unlucky": die}, num_warm_up=1, num_steps=1, num_repeats=1, num_threads=1)


@pytest.mark.slow
def test_work_alone_is_done_in_another_process():
    assert alone(os.getpid, int, num_threads=1) != os.getpid()
