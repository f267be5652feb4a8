import threading
import time
from collections.abc import Iterator

import pytest

from distill.teacher_cache import prefetched


def squares(number: int) -> int:
    return number * number


def test_results_come_in_order():
    assert list(prefetched(squares, range(50))) == [number * number for number in range(50)]
    assert list(prefetched(squares, [])) == []


def test_work_is_done_in_another_thread_at_most_depth_ahead():
    """Two results wait, one more is made and finds no room."""
    done = []

    def work(number: int) -> str:
        done.append(number)
        return threading.current_thread().name

    with prefetched(work, range(100), depth=2) as results:
        assert next(results) == "prefetch"
        deadline = time.monotonic() + 1
        while len(done) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.05)
        assert len(done) == 4


def test_an_exception_comes_out_in_its_place():
    def work(number: int) -> int:
        if number == 2:
            raise ValueError("number 2")
        return number

    results = prefetched(work, range(5))
    assert (next(results), next(results)) == (0, 1)
    with pytest.raises(ValueError, match="number 2"):
        next(results)
    assert list(results) == []


def test_an_exception_of_the_items_comes_out_too():
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    results = prefetched(squares, items())
    assert next(results) == 1
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_closing_ends_the_thread_before_the_items_end():
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    before = threading.active_count()
    with prefetched(squares, endless()) as results:
        assert next(results) == 0
    assert threading.active_count() == before
    assert list(results) == []
    results.close()


def test_time_spent_waiting_is_told():
    """Two results take 0.05 s each to make, and none to use."""

    def slow(number: int) -> int:
        time.sleep(0.05)
        return number

    results = prefetched(slow, range(2))
    assert results.waited_share == 0.0
    assert list(results) == [0, 1]
    assert 0.05 < results.waited_s <= results.elapsed_s
    assert results.waited_share > 0.5


def test_nobody_waits_for_what_was_made_meanwhile():
    with prefetched(squares, range(3), depth=3) as results:
        time.sleep(0.1)
        for _ in range(3):
            next(results)
            time.sleep(0.02)
        assert results.waited_s < 0.01
