"""The wish to stop, as signal handlers may have it."""

from __future__ import annotations

import contextlib
import queue


class Stop:
    """Asked for by handlers and threads, however often; waited for by one thread.

    `threading.Event.set` takes a lock that the interrupted thread may hold itself, in `wait` or in
    another handler's `set`: then nothing goes on. `SimpleQueue.put` may be interrupted by itself.
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
        """Until it is asked for, or for so long; answers whether it is."""
        if not self._asked:
            with contextlib.suppress(queue.Empty):
                self._woken.get(timeout=timeout_s)
        return self._asked
