"""Who a member of a group is, and what the group has committed.

The latter is asked by a consumer that never joins it. An admin client could be asked as well, but it dies,
with its process, of what a coordinator on the move answers (confluentinc/librdkafka#5040).
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stream_ad.config import Kafka
from stream_ad.io.kafka.client import ANSWER_S, client, failure, settings

READ_S = 1.0
JOINED = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS}


def begin_at(kafka: Kafka, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    """A group that has committed nothing yet begins there; what is added to the topic later it reads from its start.

    Raises `ConnectionFailed`.
    """
    with contextlib.closing(GroupOffsets(kafka, group, topic, stable=True)) as committed:
        for pause_s in (0.0, READ_S):  # a coordinator that is just back may not have read its log yet: see `Recovery`
            time.sleep(pause_s)
            if any(offset is not None for offset in committed.ask(offsets, ANSWER_S).values()):
                return
        try:
            committed.set(offsets)
        except KafkaException as error:
            if error.args[0].code() not in JOINED:  # else another worker has begun already
                raise failure(error.args[0], kafka) from None


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

    def set(self, offsets: Mapping[int, int]) -> None:
        """Of a group without members. Raises `KafkaException`."""
        positions = [TopicPartition(self._topic, part, offset) for part, offset in offsets.items()]
        self._consumer.commit(offsets=positions, asynchronous=False)

    def close(self) -> None:
        self._consumer.close()


def generation(member: bytes) -> int:
    """Of the group that a client tells who it is: `CGMDv2:`, the generation (int32), then names; -1 = of none."""
    found: int = struct.unpack_from("=i", member, 7)[0]
    return found
