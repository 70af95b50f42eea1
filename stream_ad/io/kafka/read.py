"""Reads a topic outside of any consumer group: a sample, all committed records, or also the new ones."""

from __future__ import annotations

from collections.abc import Generator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from stream_ad.config import Kafka
from stream_ad.errors import ConnectionFailed
from stream_ad.io.kafka.admin import end_offsets, start_offsets
from stream_ad.io.kafka.client import ANSWER_S, READING, client, failure, require_passing, settings
from stream_ad.io.kafka.records import sorted_out

_STRETCHES = 4
_WAIT_S = 0.25
_LAST, _MOST = 256, 16_384  # records of a partition that are read at a time, backwards


def follow(kafka: Kafka, topic: str, key: str, after: Mapping[int, int]) -> Generator[list[Message], None, None]:
    """Yields committed records as they arrive, and an empty list while none arrives.

    Begins after the offsets in `after`; a partition that is not in `after` begins at its start. `key` is the
    topic's configuration key, which errors name. Raises `InputError`, `ConnectionFailed`.
    """
    starts = {
        partition: max(start, after.get(partition, -1) + 1)
        for partition, start in start_offsets(kafka, topic, key).items()
    }
    yield from _read(kafka, topic, starts, key)


def committed(kafka: Kafka, topic: str, key: str) -> list[Message]:
    """All records that are committed now, by partition and offset. Raises as `follow`."""
    return _stretch(kafka, topic, start_offsets(kafka, topic, key), end_offsets(kafka, topic, key), None, key)


def backwards(
    kafka: Kafka, topic: str, key: str, ends: Mapping[int, int]
) -> Generator[tuple[list[Message], set[int]], None, None]:
    """Committed records before `ends`, in stretches from there back to the start, each by partition and offset; and
    with each stretch the partitions of which there is more. Raises as `follow`."""
    first = start_offsets(kafka, topic, key)
    upto, size = {part: end for part, end in ends.items() if end > first.get(part, end)}, _LAST
    while upto:
        begin = {part: max(first[part], end - size) for part, end in upto.items()}
        messages = _stretch(kafka, topic, begin, upto, None, key)
        upto, size = {part: start for part, start in begin.items() if start > first[part]}, min(4 * size, _MOST)
        yield messages, set(upto)


def sample(kafka: Kafka, topic: str, limit: int, key: str) -> list[Message]:
    """About `limit` records from several places of every partition, in the order of the log. Raises as `follow`."""
    first, last = start_offsets(kafka, topic, key), end_offsets(kafka, topic, key)
    filled = {
        partition: (first[partition], last[partition]) for partition in first if last[partition] > first[partition]
    }
    if not filled:
        return []
    quota = max(limit // (_STRETCHES * len(filled)), 1)
    messages: dict[tuple[int, int], Message] = {}
    for stretch in range(_STRETCHES):
        starts = {
            partition: max(low, min(low + (high - low) * stretch // _STRETCHES, high - quota))
            for partition, (low, high) in filled.items()
        }
        for message in _stretch(kafka, topic, starts, last, quota, key):
            messages[message.partition(), message.offset()] = message
    return [messages[place] for place in sorted(messages)]


def _stretch(
    kafka: Kafka, topic: str, starts: Mapping[int, int], ends: Mapping[int, int], quota: int | None, key: str
) -> list[Message]:
    """From `starts` to before `ends` of every partition, or to `quota` records of it."""
    open_ = {partition for partition, start in starts.items() if start < ends[partition]}
    messages: dict[int, list[Message]] = {partition: [] for partition in sorted(starts)}
    positions = dict(starts)
    quiet_s = 0.0
    reading = _read(kafka, topic, starts, key, positions)
    try:
        while open_:
            batch = next(reading)
            quiet_s = 0.0 if batch else quiet_s + _WAIT_S
            for message in batch:
                messages[message.partition()].append(message)
            for partition in list(open_):
                part = messages[partition]
                if positions[partition] >= ends[partition] or (quota is not None and len(part) >= quota):
                    open_.discard(partition)
            if quiet_s > ANSWER_S:
                raise ConnectionFailed(f"kafka.brokers: {kafka.brokers} stopped sending records of {topic!r}")
    finally:
        reading.close()
    kept = {partition: part[: quota or len(part)] for partition, part in messages.items()}
    return [message for partition, part in kept.items() for message in part if message.offset() < ends[partition]]


def _read(
    kafka: Kafka, topic: str, starts: Mapping[int, int], key: str, positions: dict[int, int] | None = None
) -> Generator[list[Message], None, None]:
    """Moves `positions` on, also past records that it does not yield, such as aborted ones."""
    values = settings(
        kafka,
        {**READING, "fetch.wait.max.ms": 100},
        {
            "group.id": "stream_ad.read",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        },
    )
    consumer = client(Consumer, values)
    try:
        consumer.assign([TopicPartition(topic, partition, start) for partition, start in starts.items()])
        while True:
            rows, ends, errors = sorted_out(consumer.consume(1000, _WAIT_S))
            for message in errors:
                # without rights to the group the client reports an error, though it never uses the group
                if message.error().code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                    require_passing(message, kafka, key, topic)
            if positions is not None:
                read = {partition: part[-1].offset() + 1 for partition, part in rows.items()}
                for partition, position in (*read.items(), *ends.items()):
                    positions[partition] = max(positions[partition], position)
            yield [message for part in rows.values() for message in part]
    except KafkaException as error:
        raise failure(error.args[0], kafka, key, topic) from None
    finally:
        consumer.close()
