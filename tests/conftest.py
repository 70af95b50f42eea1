"""What tests on real servers share: one broker and one Redis per process of tests, a fresh name per test."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from hypothesis import HealthCheck, settings

from tests.support.reading import read_committed
from tests.support.servers import kafka_broker, redis_server, wait_for_groups

# how long an example takes is no finding: the machine may be busy
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# CI asks the same questions each time, so that a red run can be told from a new finding; elsewhere they are new
settings.register_profile("ci", settings.get_profile("any machine"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "any machine")

CreateTopic = Callable[..., str]
Committed = Callable[[str], list[Message]]


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Bootstrap address of a real broker."""
    with kafka_broker() as bootstrap:
        wait_for_groups(bootstrap)
        yield bootstrap


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a real Redis."""
    with redis_server() as url:
        yield url


@pytest.fixture
def name() -> str:
    """For topics, groups and key prefixes that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def create_topic(kafka: str) -> CreateTopic:
    """`create_topic(name, partitions=1, **settings)` -> name, once it can be used."""

    admin = AdminClient({"bootstrap.servers": kafka})

    def create(topic: str, partitions: int = 1, **values: str) -> str:
        config = {key.replace("_", "."): value for key, value in values.items()}
        admin.create_topics([NewTopic(topic, partitions, config=config)])[topic].result(30)
        return topic

    return create


@pytest.fixture
def publish(kafka: str) -> Callable[..., None]:
    """`publish(topic, [(partition, key, value), ...])`, plainly; or within a transaction that is ended as told."""

    def send(topic: str, rows: list[tuple[Any, ...]], transaction: str = "", **fields: Any) -> None:
        options = {"transactional.id": f"{topic}-input"} if transaction else {}
        producer = Producer({"bootstrap.servers": kafka, "linger.ms": 1, "enable.idempotence": True, **options})
        if transaction:
            producer.init_transactions(30)
            producer.begin_transaction()
        for partition, key, value in rows:
            producer.produce(topic, key=key, value=value, partition=partition, **fields)
        assert producer.flush(30) == 0
        if transaction == "commit":
            producer.commit_transaction(30)
        elif transaction == "abort":
            producer.abort_transaction(30)

    return send


@pytest.fixture
def committed(kafka: str) -> Committed:
    """`committed(topic)`: what an independent reader with read_committed sees."""
    return functools.partial(read_committed, kafka)
