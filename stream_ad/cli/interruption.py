"""Ctrl-C as a flag that a command checks.

The usual `KeyboardInterrupt` does not work here: librdkafka loses an exception that is raised within one of its
callbacks, or turns it into a `SystemError`.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGINT or SIGTERM came. A second signal ends the program as usual."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    arrived = False

    def note(*_: object) -> None:
        nonlocal arrived
        arrived = True
        restore()

    def restore() -> None:
        for number in numbers:
            signal.signal(number, before[number])

    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, note)
    try:
        yield lambda: arrived
    finally:
        restore()
