"""Ctrl-C as something to ask for.

An exception raised within a callback of librdkafka is lost, or turns into a `SystemError`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields whether SIGINT or SIGTERM has come. The second one ends the program as usual."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    come = False

    def note(*_: object) -> None:
        nonlocal come
        come = True
        restore()

    def restore() -> None:
        for number in numbers:
            signal.signal(number, before[number])

    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, note)
    try:
        yield lambda: come
    finally:
        restore()
