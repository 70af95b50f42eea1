"""A request to stop that is safe in signal handlers."""

from __future__ import annotations

import contextlib
import queue


class Stop:
    """Handlers and threads ask for the stop, any number of times; one thread waits for it.

    A `threading.Event` could deadlock: its `set` takes a lock that the interrupted thread may hold itself, in
    `wait` or in another handler's `set`. `SimpleQueue.put` may be interrupted by itself.
    """

    def __init__(self) -> None:
        self._asked = False
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ask(self) -> None:
        self._asked = True
        self._woken.put(None)

    def asked(self) -> bool:
        return self._asked

    def wait(self, timeout_s: float) -> bool:
        """Waits for a request, at most `timeout_s`; returns whether there is one."""
        if not self._asked:
            with contextlib.suppress(queue.Empty):
                self._woken.get(timeout=timeout_s)
        return self._asked
