"""What a user is told about settings, brokers and topics that cannot be used."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import ConfigError, ConnectionFailed, InputError, Unreachable
from stream_ad.io.kafka import admin as kafka_admin
from stream_ad.io.kafka.client import failure, settings
from stream_ad.io.kafka.models import KafkaModelLog
from stream_ad.io.kafka.source import KafkaSource
from tests.support.listening import Told
from tests.support.requests import LIST_OFFSETS, servers
from tests.support.servers import free_port
from tests.support.waiting import until


def test_an_absent_broker_is_said_in_time_with_its_key() -> None:
    config = Kafka(brokers=f"127.0.0.1:{free_port()}")
    with pytest.raises(ConnectionFailed, match=rf"kafka\.brokers: no answer from {config.brokers} within 0\.5 s"):
        kafka_admin.reach(config, 0.5)


def test_a_partition_without_a_leader_is_waited_for() -> None:
    """It ended a run whose connection was cut while it asked for the ends of its topic."""
    error = KafkaError(KafkaError._NOENT, "Failed to query partition leaders: No leaders found")
    assert isinstance(failure(error, Kafka(brokers="b:1")), Unreachable)


def test_a_connection_that_is_lost_while_offsets_are_asked_for_is_no_answer() -> None:
    """The client reports no error: the topic, and the log of models, looked empty."""
    with servers() as (made, requests):
        made.create_topic("t", 2)
        config = Kafka(brokers=made.brokers)
        ends: dict[int, int] = {}

        def ask() -> None:
            with contextlib.suppress(Unreachable):  # the topic's leaders have only just been chosen
                ends.update(kafka_admin.end_offsets(config, "t"))

        until(lambda: ends, ask)
        assert ends == {0: 0, 1: 0}
        requests.cut_at = LIST_OFFSETS
        with pytest.raises(Unreachable, match=r"kafka\.brokers: "):
            kafka_admin.end_offsets(config, "t")
        with pytest.raises(Unreachable, match=r"kafka\.brokers: "):
            KafkaModelLog(config, "t", "t").swaps([0])


def test_a_missing_topic_is_answered_with_names_like_it(kafka: str, name: str, create_topic: Any) -> None:
    create_topic(f"{name}-payments")
    source = KafkaSource(Kafka(brokers=kafka), SourceConfig(topic=f"{name}-payment"), name)
    with pytest.raises(InputError, match=rf"source\.topic: no topic '{name}-payment' .*{name}-payments"):
        source.open(Told())


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("group.id", "mine", "cannot be set here"),
        ("isolation.level", "read_uncommitted", "cannot be set here"),
        ("fetch.wait.max.msec", 5, "fetch.wait.max.msec"),
        ("fetch.wait.max.ms", "soon", "Invalid value"),
        ("sasl.password.file", "/nowhere/secret", "cannot be read"),
    ],
)
def test_an_option_that_cannot_be_is_named(option: str, value: str | int, said: str, kafka: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"kafka\.options\.{option}: .*{said}"):
        KafkaSource(Kafka(brokers=kafka, options={option: value}), SourceConfig(topic=name), name).open(Told())


def test_options_reach_the_client_and_secrets_come_from_files(kafka: str, tmp_path: Path) -> None:
    (tmp_path / "id").write_text("from-a-file\n")
    config = Kafka(brokers=kafka, options={"client.id.file": str(tmp_path / "id"), "fetch.wait.max.ms": 1})
    found = settings(config, {"fetch.wait.max.ms": 10}, {"group.id": "g"})
    assert found == {"client.id": "from-a-file", "fetch.wait.max.ms": 1, "bootstrap.servers": kafka, "group.id": "g"}
