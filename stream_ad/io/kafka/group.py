"""The generation of a group's member, and the offsets that a group has committed.

A consumer that never joins the group asks for the offsets. An admin client could ask as well, but an answer of a
coordinator that is moving crashes it together with its process (confluentinc/librdkafka#5040).
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
    """Makes a group that has committed nothing yet begin at `offsets`. Partitions added later begin at their start.

    Raises `ConnectionFailed`.
    """
    with contextlib.closing(GroupOffsets(kafka, group, topic, stable=True)) as committed:
        for pause_s in (0.0, READ_S):  # a coordinator that is just back may not have read its log: see `Recovery`
            time.sleep(pause_s)
            if any(offset is not None for offset in committed.ask(offsets, ANSWER_S).values()):
                return
        try:
            committed.set(offsets)
        except KafkaException as error:
            if error.args[0].code() not in JOINED:  # these codes mean that another worker has begun already
                raise failure(error.args[0], kafka) from None


class GroupOffsets:
    """The committed offsets of one group in one topic. `stable`: `ask` waits for transactions that are undecided."""

    def __init__(self, kafka: Kafka, group: str, topic: str, stable: bool) -> None:
        self._kafka, self._topic = kafka, topic
        # silent: while brokers are away, the clients that do the work say so
        required = {
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_committed" if stable else "read_uncommitted",
            "error_cb": lambda error: None,
        }
        self._consumer: Any = client(Consumer, settings(kafka, {"log_level": 0}, required))

    def ask(self, partitions: Iterable[int], timeout_s: float) -> dict[int, int | None]:
        """Partition -> offset; None = none yet. Raises `ConnectionFailed`."""
        asked = [TopicPartition(self._topic, part) for part in partitions]
        try:
            answers = self._consumer.committed(asked, timeout=timeout_s)
            wrong = next((part.error for part in answers if part.error is not None), None)
            if wrong is not None:
                raise KafkaException(wrong)
        except KafkaException as error:
            raise failure(error.args[0], self._kafka) from None
        return {part.partition: part.offset if part.offset >= 0 else None for part in answers}

    def set(self, offsets: Mapping[int, int]) -> None:
        """Commits `offsets` for a group that has no members. Raises `KafkaException`."""
        positions = [TopicPartition(self._topic, part, offset) for part, offset in offsets.items()]
        self._consumer.commit(offsets=positions, asynchronous=False)

    def close(self) -> None:
        self._consumer.close()


def generation(member: bytes) -> int:
    """The generation in a client's group metadata (`CGMDv2:`, the generation as int32, then names); -1 = none."""
    number: int = struct.unpack_from("=i", member, 7)[0]
    return number
