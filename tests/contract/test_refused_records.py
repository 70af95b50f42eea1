"""Records that a broker refuses whenever they are sent: the sink must not send them again and again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from stream_ad.batch import Message
from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import ConfigError
from stream_ad.io.kafka.sink import KafkaSink
from stream_ad.io.kafka.source import KafkaSource
from tests.support.listening import Told
from tests.support.waiting import until

Delivery = Literal["exactly_once", "at_least_once"]


@pytest.fixture
def source(kafka: str, name: str, create_topic: Any) -> Iterator[KafkaSource]:
    create_topic(name)
    made, told = KafkaSource(Kafka(brokers=kafka), SourceConfig(topic=name), name), Told()
    made.open(told)
    until(lambda: told.owned, lambda: made.poll(20))
    yield made
    made.close()


def refused(sink: KafkaSink, *messages: Message) -> str:
    def publish() -> None:
        sink.send("rejects", messages)
        sink.commit({0: 1})

    with pytest.raises(ConfigError) as caught:
        publish()
    sink.close()
    return str(caught.value)


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_record_too_large_for_the_topic_is_an_error_and_no_crash_to_be_repeated(
    kafka: str, name: str, create_topic: Any, committed: Any, source: KafkaSource, delivery: Delivery
) -> None:
    topic = create_topic(f"{name}.rejects", max_message_bytes="100000")
    sink = KafkaSink(Kafka(brokers=kafka), {"rejects": topic}, source, delivery, f"{name}-0")
    said = refused(sink, Message(b"k", os.urandom(200_000), []))
    assert said.startswith(f"sink.max_record_bytes: topic '{topic}' takes no record that large")
    assert "max.message.bytes" in said
    assert committed(topic) == []
    assert source.progress() == {0: None}


def test_a_record_too_large_for_the_client_is_the_same_error(
    kafka: str, name: str, create_topic: Any, source: KafkaSource
) -> None:
    topic = create_topic(f"{name}.rejects")
    config = Kafka(brokers=kafka, options={"message.max.bytes": 100_000})
    sink = KafkaSink(config, {"rejects": topic}, source, "exactly_once", f"{name}-0")
    said = refused(sink, Message(b"k", os.urandom(200_000), []))
    assert said.startswith("sink.max_record_bytes: ")
    assert "kafka.options" in said


def test_many_records_never_make_a_batch_larger_than_one_may_be(
    kafka: str, name: str, create_topic: Any, committed: Any, source: KafkaSource
) -> None:
    """A broker's limit is on batches: it must not matter how many records wait for one."""
    topic = create_topic(f"{name}.rejects", max_message_bytes="100000")
    sink = KafkaSink(Kafka(brokers=kafka), {"rejects": topic}, source, "exactly_once", f"{name}-0", 90_000)
    sink.send("rejects", [Message(b"k", os.urandom(30_000), [])] * 40)
    sink.commit({0: 1})
    sink.close()
    assert len(committed(topic)) == 40


def test_what_is_as_large_as_it_may_be_is_taken_by_a_broker_with_kafkas_defaults(
    kafka: str, name: str, create_topic: Any, committed: Any, source: KafkaSource
) -> None:
    topic = create_topic(f"{name}.rejects")
    sink = KafkaSink(Kafka(brokers=kafka), {"rejects": topic}, source, "exactly_once", f"{name}-0", 900_000)
    sink.send("rejects", [Message(b"k" * 100, os.urandom(895_900), [("h", b"v" * 4000)])] * 2)
    sink.commit({0: 1})
    sink.close()
    assert len(committed(topic)) == 2


def test_a_compacted_topic_refuses_records_without_a_key_and_is_named(
    kafka: str, name: str, create_topic: Any, source: KafkaSource
) -> None:
    topic = create_topic(f"{name}.rejects", cleanup_policy="compact")
    sink = KafkaSink(Kafka(brokers=kafka), {"rejects": topic}, source, "exactly_once", f"{name}-0")
    said = refused(sink, Message(None, b"v", []))
    assert said.startswith(f"sink.rejects: topic '{topic}' refuses a record")
    assert "compacted" in said
