"""A source that ends once its group has committed all records that were there at the start."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from stream_ad.batch import RawBatch
from stream_ad.errors import ConnectionFailed
from stream_ad.io.kafka.source import KafkaSource
from stream_ad.protocols import Listener

LOOK_S = 0.5


class UntilCommitted:
    """`source`, bounded by `until` (partition -> offset), whichever worker commits it."""

    def __init__(self, source: KafkaSource, until: Mapping[int, int]) -> None:
        self.topic = source.topic
        self._source, self._until = source, until
        self._looked_at = 0.0
        self._idle = False

    def open(self, listener: Listener) -> None:
        self._source.open(listener)

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        batches = self._source.poll(timeout_ms)
        self._idle = not batches
        return batches

    def start(self, offsets: Mapping[int, int]) -> None:
        self._source.start(offsets)

    def committed(self, partitions: Sequence[int]) -> Mapping[int, int | None]:
        return self._source.committed(partitions)

    def finished(self) -> bool:
        """Partitions of other workers count too, since this worker may have to take them over."""
        if not self._idle or time.monotonic() - self._looked_at < LOOK_S:
            return False
        try:
            committed = self._source.progress()
        except ConnectionFailed:  # brokers are away, or a commit is under way: the next call asks again
            return False
        finally:
            self._looked_at = time.monotonic()
        return all((committed.get(partition) or 0) >= offset for partition, offset in self._until.items())

    def close(self) -> None:
        self._source.close()
