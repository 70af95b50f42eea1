"""A range of a topic, read without a group, for replays and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from stream_ad.batch import RawBatch
from stream_ad.config import Kafka
from stream_ad.io.kafka.admin import end_offsets, offsets, start_offsets
from stream_ad.io.kafka.client import client, failure, require_passing, settings, warn
from stream_ad.io.kafka.records import raw_batch, sorted_out, taken
from stream_ad.io.kafka.source import FETCH
from stream_ad.io.seeks import Seeks
from stream_ad.protocols import Listener

NO_END = 1 << 62


def range_of(
    kafka: Kafka, topic: str, from_ms: int | None = None, to_ms: int | None = None, key: str = "source.topic"
) -> tuple[dict[int, int], dict[int, int]]:
    """First offsets and offsets to stop before, chosen by the records' own times; None = all there is now.

    Raises `ConnectionFailed`, `InputError`.
    """
    stop = end_offsets(kafka, topic, key)
    start = start_offsets(kafka, topic, key)
    if from_ms is not None:
        at = offsets(kafka, topic, OffsetSpec.for_timestamp(from_ms), key)
        start = {part: stop[part] if at[part] < 0 else max(at[part], start[part]) for part in stop}
    if to_ms is not None:
        at = offsets(kafka, topic, OffsetSpec.for_timestamp(to_ms), key)
        stop = {part: stop[part] if at[part] < 0 else min(at[part], stop[part]) for part in stop}
    return start, stop


class KafkaRange:
    """Each partition from `start` up to, not including, `stop`; without `stop`, for ever.

    Finished exactly when all committed records below `stop` have been polled, also where the last offsets
    belong to aborted transactions or were compacted away.
    """

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        start: Mapping[int, int],
        stop: Mapping[int, int] | None = None,
        key: str = "source.topic",
    ) -> None:
        """`key` names the topic in errors."""
        self.topic, self._key = topic, key
        self._kafka = kafka
        self._start = dict(start)
        self._stop = {part: stop[part] if stop is not None else NO_END for part in start}
        self._settings = settings(
            kafka,
            FETCH,
            {
                "group.id": "stream_ad.range",  # the client requires one, but never joins it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "allow.auto.create.topics": False,
                "error_cb": warn,
            },
        )
        self._consumer: Any = None
        self._seeks = Seeks()
        self._waiting: set[int] = set()
        self._open: dict[int, int] = {}  # partition -> its next offset, until it reaches its stop

    def open(self, listener: Listener) -> None:
        """The listener may choose later offsets than `start`."""
        self._waiting = set(self._start)
        self._consumer = client(Consumer, self._settings)
        listener.assigned(sorted(self._start))
        self._start_due(0)

    def start(self, offsets: Mapping[int, int]) -> None:
        self._seeks.put(offsets)

    def committed(self, partitions: Sequence[int]) -> dict[int, int | None]:
        return dict.fromkeys(partitions)

    def _start_due(self, timeout_ms: int) -> None:
        asked = self._seeks.take(timeout_ms)
        begin = {part: max(self._start[part], offset) for part, offset in asked.items()}
        due = {part: first for part, first in begin.items() if first < self._stop[part]}
        self._waiting -= begin.keys()
        self._open.update(due)
        if due:
            self._consumer.incremental_assign([TopicPartition(self.topic, *place) for place in due.items()])

    def poll(self, timeout_ms: int) -> list[RawBatch]:
        if self._waiting:
            self._start_due(0 if self._open else timeout_ms)
        if not self._open:
            return []
        try:
            messages = taken(self._consumer, timeout_ms / 1000)
        except KafkaException as error:
            raise failure(error.args[0], self._kafka, self._key, self.topic) from None
        records, ends, errors = sorted_out(messages)
        for problem in errors:
            self._check(problem)
        batches = []
        for part, rows in records.items():
            if part in self._open:
                after = max(rows[-1].offset() + 1, ends.pop(part, 0))
                batches.append(self._cut(part, rows, after))
        for part, end in ends.items():
            if end > self._open.get(part, end):
                batches.append(self._cut(part, [], end))
        return batches

    def _cut(self, part: int, rows: list[Any], after: int) -> RawBatch:
        stop = self._stop[part]
        if after >= stop:
            rows = [row for row in rows if row.offset() < stop]
            after = stop
            del self._open[part]
            self._consumer.incremental_unassign([TopicPartition(self.topic, part)])
        else:
            self._open[part] = after
        return raw_batch(self.topic, part, rows, after)

    def _check(self, message: Message) -> None:
        # without rights to the group the client reports an error, though it never uses the group
        if message.error().code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
            warn(require_passing(message, self._kafka, self._key, self.topic))

    def finished(self) -> bool:
        return not self._open and not self._waiting

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
