"""Reads back which model judged from which offset on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stream_ad.config import Kafka
from stream_ad.errors import InputError
from stream_ad.io.kafka_range import KafkaRange, range_of
from stream_ad.protocols import Swap
from stream_ad.swaps import decode_swap


class KafkaSwapLog:
    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka = kafka
        self.topic = topic

    def read(self, partitions: Sequence[int]) -> dict[int, list[Swap]]:
        """All committed swaps up to now; a topic that does not exist holds none. Raises `ConnectionFailed`."""
        try:
            start, stop = range_of(self._kafka, self.topic, key="pipeline")
        except InputError:
            return {part: [] for part in partitions}
        source = KafkaRange(self._kafka, self.topic, start, stop)
        swaps = []
        source.open(_Everything())
        try:
            while not source.finished():
                for batch in source.poll(100):
                    for row, value in enumerate(batch.value):
                        try:
                            swaps.append(decode_swap(value or b""))
                        except ValueError as error:
                            raise InputError(
                                f"{self.topic}/{batch.partition}/{batch.offset[row]}: {error}; "
                                "only the pipeline may write to this topic"
                            ) from None
        finally:
            source.close()
        return by_partition(swaps, partitions)


def by_partition(swaps: Iterable[Swap], partitions: Sequence[int]) -> dict[int, list[Swap]]:
    """In the order of offsets; where two name one offset, the later record counts (a crash repeated it)."""
    last = {(swap.partition, swap.offset): swap for swap in swaps}
    return {part: [last[at] for at in sorted(last) if at[0] == part] for part in partitions}


class _Everything:
    """Takes a range from where it starts."""

    def assigned(self, committed: Mapping[int, int | None]) -> Mapping[int, int]:
        return {}

    def revoked(self, partitions: Sequence[int]) -> None: ...

    def lost(self, partitions: Sequence[int]) -> None: ...
