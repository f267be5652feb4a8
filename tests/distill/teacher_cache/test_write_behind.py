import threading

import pytest

from distill.teacher_cache.write_behind import WriteBehind


def fail() -> None:
    raise OSError("full")


def test_actions_are_done_in_order_in_one_other_thread():
    done: list[tuple[int, str]] = []
    with WriteBehind() as behind:
        for number in range(5):
            behind.put(lambda number=number: done.append((number, threading.current_thread().name)))
        behind.wait()
    assert done == [(number, "write-behind") for number in range(5)]


def test_the_owner_computes_on_while_an_action_is_done():
    begun, go_on = threading.Event(), threading.Event()
    with WriteBehind(depth=1) as behind:
        behind.put(lambda: (begun.set(), go_on.wait(10)))
        assert begun.wait(10)
        behind.put(go_on.is_set)  # returns at once: one may wait
        go_on.set()


def test_an_error_is_raised_by_every_later_call_and_drops_what_is_behind_it():
    done: list[int] = []
    behind = WriteBehind()
    behind.put(fail)
    behind.settle()
    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            behind.put(lambda: done.append(1))
    with pytest.raises(OSError, match="full"):
        behind.wait()
    with pytest.raises(OSError, match="full"), behind:
        pass
    assert done == []


def test_an_error_at_the_end_is_not_lost():
    with pytest.raises(OSError, match="full"), WriteBehind() as behind:
        behind.put(fail)


def test_an_error_of_the_block_itself_is_the_one_that_counts():
    def go_wrong_in_both() -> None:
        with WriteBehind() as behind:
            behind.put(fail)
            behind.settle()
            raise KeyError

    with pytest.raises(KeyError):
        go_wrong_in_both()
