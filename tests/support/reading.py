"""An independent reader of topics, which knows nothing of the program."""

from __future__ import annotations

import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tests.support.waiting import pause, until


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
        found: list[Message] = []

        def read() -> None:
            message = consumer.poll(0.2)
            if message is None:
                return
            if message.error() is None:
                found.append(message)
                return
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            if undecided or message.offset() >= ends[message.partition()]:
                waiting.discard(message.partition())

        until(lambda: not waiting, read, lambda: f"{topic}: a transaction stays undecided in partitions {waiting}")
        return sorted(found, key=lambda row: (row.partition(), row.offset()))
    finally:
        consumer.close()


def _ends(brokers: str, topic: str) -> dict[int, int]:
    consumer = _consumer(brokers, "read_uncommitted")
    try:
        ends: dict[int, int] = {}
        waiting = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)

        def ask() -> None:
            for partition in sorted(waiting):
                try:
                    _, ends[partition] = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
                    waiting.discard(partition)
                except KafkaException as error:
                    # A broker makes a topic known before it leads its partitions.
                    if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                        raise
                    pause()

        until(lambda: not waiting, ask, lambda: f"{topic}: the broker does not lead partitions {waiting}")
        return ends
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
