"""What a group has committed, asked by a consumer that never joins it.

An admin client could be asked as well, but it dies, with its process, of what a coordinator on the move
answers (confluentinc/librdkafka#5040).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from stream_ad.config import Kafka
from stream_ad.io.kafka_client import client, failure, settings


class GroupOffsets:
    """Of one group and topic. `stable`: not before a transaction that is about to change them is decided."""

    def __init__(self, kafka: Kafka, group: str, topic: str, stable: bool) -> None:
        self._kafka, self._topic = kafka, topic
        # silent: where brokers are away, the clients that do the work say so
        required = {
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed" if stable else "read_uncommitted",
            "error_cb": lambda error: None,
        }
        self._consumer: Any = client(Consumer, settings(kafka, {"log_level": 0}, required))

    def ask(self, partitions: Iterable[int], timeout_s: float) -> dict[int, int | None]:
        """None = nothing yet. Raises `ConnectionFailed`."""
        asked = [TopicPartition(self._topic, part) for part in partitions]
        try:
            found = self._consumer.committed(asked, timeout=timeout_s)
            wrong = next((part.error for part in found if part.error is not None), None)
            if wrong is not None:
                raise KafkaException(wrong)
        except KafkaException as error:
            raise failure(error.args[0], self._kafka) from None
        return {part.partition: part.offset if part.offset >= 0 else None for part in found}

    def close(self) -> None:
        self._consumer.close()
