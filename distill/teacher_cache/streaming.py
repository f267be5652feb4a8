"""Work done ahead of its use, in one thread: reading the next batch while this one trains."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_POLL_S = 0.1


class Prefetched(Iterator[R], Generic[T, R]):
    """The results of `make` over `items`, in order; see `prefetched`."""

    def __init__(self, make: Callable[[T], R], items: Iterable[T], *, depth: int) -> None:
        assert depth > 0
        self.waited_s = 0.0
        self.elapsed_s = 0.0
        self._make, self._items = make, items
        self._results: queue.Queue[R | _Failed | _Ended] = queue.Queue(maxsize=depth)
        self._closed = threading.Event()
        self._ended = False
        self._started: float | None = None
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._thread.start()

    @property
    def waited_share(self) -> float:
        """Seconds that the caller waited for results over seconds since it first asked; 0 before that."""
        return self.waited_s / self.elapsed_s if self.elapsed_s else 0.0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        if self._ended or self._closed.is_set():
            raise StopIteration
        asked = time.perf_counter()
        self._started = asked if self._started is None else self._started
        result = self._results.get()
        answered = time.perf_counter()
        self.waited_s += answered - asked
        self.elapsed_s = answered - self._started
        if isinstance(result, _Ended):
            self._ended = True
            raise StopIteration
        if isinstance(result, _Failed):
            self._ended = True
            raise result.error
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the thread after the item it is at; results not yet taken are dropped. Safe to call twice."""
        self._closed.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(_POLL_S)
        self._drain()

    def _drain(self) -> None:
        try:
            while True:
                self._results.get_nowait()
        except queue.Empty:
            return

    def _work(self) -> None:
        try:
            for item in self._items:
                if self._closed.is_set() or not self._put(self._make(item)):
                    return
        except BaseException as error:  # noqa: BLE001  (raised again where the results are taken)
            self._put(_Failed(error))
        else:
            self._put(_Ended())

    def _put(self, result: "R | _Failed | _Ended") -> bool:
        """Whether the result was taken in before the iterator was closed."""
        while not self._closed.is_set():
            try:
                self._results.put(result, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False


def prefetched(make: Callable[[T], R], items: Iterable[T], *, depth: int = 2) -> Prefetched[T, R]:
    """Runs `make` over `items` in one thread, at most `depth` results ahead of the caller.

    What `make` or `items` raises comes out in its place, after the results before it. Close it, or use it as a
    context, to end the thread early; a program that ends does not wait for it.

    Args:
        make: what to do with each item, for example reading a batch; runs in the other thread.
        items: may be without end.
        depth: results that wait at most; memory grows with it.

    Returns:
        An iterator with `waited_s`, the seconds its caller waited, and `waited_share`.
    """
    return Prefetched(make, items, depth=depth)


class _Failed:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class _Ended:
    pass
