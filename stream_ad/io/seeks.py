"""Start offsets for a source: any thread requests them, the polling thread applies them."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream_ad.protocols import Source

BEGIN = -1


class Seeks:
    """Requested start offsets by partition."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[Mapping[int, int]] = queue.SimpleQueue()
        self._due: dict[int, int] = {}

    def put(self, offsets: Mapping[int, int]) -> None:
        self._requests.put(offsets)

    def take(self, timeout_ms: int = 0) -> dict[int, int]:
        """All offsets requested by now; where there are none, waits up to `timeout_ms` for some."""
        self._gather(timeout_ms)
        due, self._due = self._due, {}
        return due

    def drop(self, partitions: Iterable[int]) -> None:
        """Forgets earlier requests for partitions that were given up."""
        self._gather()
        for partition in partitions:
            self._due.pop(partition, None)

    def _gather(self, timeout_ms: int = 0) -> None:
        try:
            if timeout_ms and not self._due:
                self._due.update(self._requests.get(timeout=timeout_ms / 1000))
            while True:
                self._due.update(self._requests.get_nowait())
        except queue.Empty:
            return


class FromTheStart:
    """A listener that reads every partition from its beginning, for readers without a group or state."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.partitions = 0  # how many there are

    def assigned(self, partitions: Sequence[int]) -> None:
        self.partitions = len(partitions)
        self._source.start(dict.fromkeys(partitions, BEGIN))

    def revoked(self, partitions: Sequence[int]) -> None: ...

    def lost(self, partitions: Sequence[int]) -> None: ...
