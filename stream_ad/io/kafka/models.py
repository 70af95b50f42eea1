"""Reads from the log which model judged from which offset on, and the bundles of these models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stream_ad.batch import RawBatch
from stream_ad.config import Kafka
from stream_ad.errors import InputError
from stream_ad.io.kafka.range import KafkaRange, range_of
from stream_ad.io.seeks import FromTheStart
from stream_ad.messages.models import by_partition, decode_swap, join_bundle
from stream_ad.protocols import Swap


class KafkaModelLog:
    """All swaps and bundles that are committed by now; a missing topic counts as empty.

    Raises `ConnectionFailed`, and `InputError` where another program has written to the topic of swaps.
    """

    def __init__(self, kafka: Kafka, swaps: str, bundles: str) -> None:
        self._kafka, self._swaps, self._bundles = kafka, swaps, bundles

    def swaps(self, partitions: Sequence[int]) -> dict[int, list[Swap]]:
        swaps = []
        for batch in self._records(self._swaps):
            for row, value in enumerate(batch.value):
                try:
                    swaps.append(decode_swap(value or b""))
                except ValueError as error:
                    raise InputError(
                        f"{self._swaps}/{batch.partition}/{batch.offset[row]}: {error}; "
                        "only the pipeline may write to this topic"
                    ) from None
        return by_partition(swaps, partitions)

    def bundle(self, version: str) -> bytes | None:
        batches = self._records(self._bundles)
        return join_bundle(version, (row for batch in batches for row in zip(batch.key, batch.value, strict=True)))

    def _records(self, topic: str) -> Iterator[RawBatch]:
        try:
            start, stop = range_of(self._kafka, topic, key="pipeline")
        except InputError:
            return
        source = KafkaRange(self._kafka, topic, start, stop, "pipeline")
        source.open(FromTheStart(source))
        try:
            while not source.finished():
                yield from source.poll(100)
        finally:
            source.close()
