"""A thread that does what is put to it, in order, while its owner computes on."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class WriteBehind:
    """Runs actions in a thread of its own, at most `depth` of them waiting; use it in a `with` block.

    After an action has failed, the ones behind it are dropped, and every later call raises the error.
    """

    def __init__(self, *, depth: int = 2) -> None:
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
        self._thread.start()

    def put(self, action: Callable[[], None]) -> None:
        """Queues an action; waits where `depth` of them are queued already."""
        self._raise_error()
        self._queue.put(action)

    def wait(self) -> None:
        """Returns when everything put so far is done."""
        self.settle()
        self._raise_error()

    def settle(self) -> None:
        """Returns when nothing is at work any more, whether it went well or not."""
        self._queue.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if value is None:
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            action = self._queue.get()
            try:
                if action is not None and self._error is None:
                    action()
            except BaseException as error:  # noqa: BLE001  (carried over to the thread that asked)
                self._error = error
            finally:
                self._queue.task_done()
            if action is None:
                return
