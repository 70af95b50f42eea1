"""Writes records to a topic, to partitions that the caller has chosen."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream_ad.config import Kafka
from stream_ad.errors import ConfigError, ConnectionFailed
from stream_ad.io.kafka.admin import create_topics, partitions, reach
from stream_ad.io.kafka.client import client, failure, is_refused, settings

_DEFAULTS = {
    "linger.ms": 20,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 128 << 10,
    "message.timeout.ms": 60_000,
}


def ensure_topic(kafka: Kafka, topic: str, count: int | None, keep: bool) -> int:
    """Creates the topic with `count` partitions (default 1) if it is missing; returns its number of partitions.

    `keep`: a new topic keeps its records for ever, since their times may be older than any retention.
    Raises `ConfigError` where the topic has another number, `ConnectionFailed`.
    """
    if topic not in reach(kafka).list_topics(timeout=10).topics:
        create_topics(kafka, {topic: count or 1}, {"retention.ms": "-1"} if keep else None)
    existing = len(partitions(kafka, topic, "--topic"))
    if count is not None and existing != count:
        raise ConfigError(f"--partitions: topic {topic!r} has {existing} partitions already, not {count}")
    return existing


class TopicWriter:
    """All methods raise `ConnectionFailed` or `InputError` once a record could not be delivered."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        self._failed: KafkaError | None = None
        self._errors: list[KafkaError] = []
        required = {"enable.idempotence": True, "error_cb": self._errors.append}
        self._producer = client(Producer, settings(kafka, _DEFAULTS, required))
        self.delivered = 0

    def send(self, partition: int, key: bytes | None, value: bytes, time_ms: int) -> None:
        """Queues a record; waits while the queue is full. `time_ms` -1 = the time of sending."""
        while True:
            self._check()
            try:
                self._producer.produce(self._topic, value, key, partition, self._done, timestamp=max(time_ms, 0))
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                raise failure(error.args[0], self._kafka, "--topic", self._topic) from None
            else:
                return

    def serve(self, timeout_s: float = 0.0) -> None:
        """Waits up to `timeout_s`, and counts the records delivered by then."""
        self._producer.poll(timeout_s)
        self._check()

    def flush(self, timeout_s: float) -> None:
        left = self._producer.flush(timeout_s)
        self._check()
        if left:
            raise ConnectionFailed(f"kafka.brokers: {self._kafka.brokers} did not take the last {left} records in time")

    def _done(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._failed = self._failed or error

    def _check(self) -> None:
        error = self._failed or next((error for error in self._errors if is_refused(error) or error.fatal()), None)
        if error is not None:
            raise failure(error, self._kafka, "--topic", self._topic)
