"""An independent reader of topics, which knows nothing of the program."""

from __future__ import annotations

import time
import uuid

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

WAIT_S = 60.0


def read_committed(brokers: str, topic: str, undecided: bool = False) -> list[Message]:
    """All records of committed transactions, by partition and offset.

    A commit is done before its markers are written: waits until no transaction is undecided, unless
    one is meant to be. Then what lies before it is read.
    """
    ends = _ends(brokers, topic)
    consumer = _consumer(brokers, "read_committed")
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in ends])
        waiting = {partition for partition, end in ends.items() if end}
        deadline = time.monotonic() + WAIT_S
        found = []
        while waiting:
            assert time.monotonic() < deadline, f"{topic}: a transaction stays undecided in partitions {waiting}"
            message = consumer.poll(0.2)
            if message is None:
                continue
            if message.error() is None:
                found.append(message)
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                if undecided or message.offset() >= ends[message.partition()]:
                    waiting.discard(message.partition())
        return sorted(found, key=lambda row: (row.partition(), row.offset()))
    finally:
        consumer.close()


def _ends(brokers: str, topic: str) -> dict[int, int]:
    consumer = _consumer(brokers, "read_uncommitted")
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)[1]
            for partition in partitions
        }
    finally:
        consumer.close()


def _consumer(brokers: str, isolation: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": f"reader-{uuid.uuid4().hex}",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )
