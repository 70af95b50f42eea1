"""How far the topic goes and the group has come, as the watchdog is told."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Producer

from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import Unreachable
from stream_ad.io.kafka.progress import GroupProgress
from stream_ad.io.kafka.source import KafkaSource
from tests.support.listening import Told
from tests.support.servers import free_port
from tests.support.waiting import until


def test_what_an_open_transaction_hides_is_no_lag(kafka: str, name: str, create_topic: Any, publish: Any) -> None:
    """A producer that died would keep the consumer's own end ahead of all that can be read, until it times out."""
    create_topic(name, 2)
    publish(name, [(0, None, b"%d" % row) for row in range(5)])
    hanging = Producer({"bootstrap.servers": kafka, "transactional.id": f"{name}-hanging"})
    hanging.init_transactions(30)
    hanging.begin_transaction()
    for _ in range(3):
        hanging.produce(name, b"hidden", partition=0)
    assert hanging.flush(30) == 0
    publish(name, [(0, None, b"behind")])
    progress = GroupProgress(Kafka(brokers=kafka), name, name)
    until(lambda: answers(progress))
    assert progress.ask([0, 1]) == ({0: 5, 1: 0}, {})
    hanging.abort_transaction(30)
    until(lambda: progress.ask([0])[0] != {0: 5})
    assert progress.ask([0])[0] == {0: 10}  # three that were aborted, one that was not, and the transaction's end
    # and the source gets as far, over records that nobody may see
    source = KafkaSource(Kafka(brokers=kafka), SourceConfig(topic=name), name)
    source.open(Told(source))
    reached: dict[int, int] = {}

    def poll() -> None:
        reached.update({batch.partition: batch.next_offset for batch in source.poll(50)})

    until(lambda: reached.get(0) == 10, poll)
    source.commit({0: 6})
    source.close()
    assert progress.ask([]) == ({}, {0: 6})


def answers(progress: GroupProgress) -> bool:
    """The group's coordinator of a broker that has just started is not ready yet."""
    try:
        progress.ask([])
    except Unreachable:
        return False
    return True


def test_brokers_that_are_away_are_said_to_be() -> None:
    progress = GroupProgress(Kafka(brokers=f"127.0.0.1:{free_port()}"), "group", "topic")
    with pytest.raises(Unreachable):
        progress.ask([0])
