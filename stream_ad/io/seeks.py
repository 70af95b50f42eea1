"""From where a source is to read: said by any thread, done by the one that polls."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_ad.protocols import Source

BEGIN = -1


class Starts:
    """Offsets by partition, on their way."""

    def __init__(self) -> None:
        self._said: queue.SimpleQueue[Mapping[int, int]] = queue.SimpleQueue()
        self._due: dict[int, int] = {}

    def put(self, offsets: Mapping[int, int]) -> None:
        self._said.put(offsets)

    def take(self, timeout_ms: int = 0) -> dict[int, int]:
        """All that was said by now; waits for some where there is none."""
        self._gather(timeout_ms)
        due, self._due = self._due, {}
        return due

    def drop(self, partitions: Iterable[int]) -> None:
        """They were given up: what was said of them before is void."""
        self._gather()
        for partition in partitions:
            self._due.pop(partition, None)

    def _gather(self, timeout_ms: int = 0) -> None:
        try:
            if timeout_ms and not self._due:
                self._due.update(self._said.get(timeout=timeout_ms / 1000))
            while True:
                self._due.update(self._said.get_nowait())
        except queue.Empty:
            return


class FromTheStart:
    """The listener of who reads without a group and without a memory."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def assigned(self, partitions: Sequence[int]) -> None:
        self._source.start(dict.fromkeys(partitions, BEGIN))

    def revoked(self, partitions: Sequence[int]) -> None: ...

    def lost(self, partitions: Sequence[int]) -> None: ...
