"""`kafka.group_protocol` on real brokers: what each allows in a rebalance, and brokers that know only one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from stream_ad.batch import Message
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import ConfigError, ConnectionFailed, TransactionFailed
from stream_ad.io.kafka.sink import KafkaSink
from stream_ad.io.kafka.source import KafkaSource
from stream_ad.io.kafka.versions import HEARTBEAT, require_protocol
from tests.support.listening import Protocol, Told, group_of
from tests.support.servers import KafkaBroker
from tests.support.waiting import until


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_commit_in_the_name_of_an_earlier_generation(
    kafka: str, name: str, create_topic: Any, committed: Any, protocol: Protocol
) -> None:
    """The newer protocol asks who owns the partition, the classic one refuses whoever has not heard the news."""
    config = group_of(kafka, protocol)
    create_topic(name, 2)
    alerts = create_topic(f"{name}.alerts")
    first, second = (KafkaSource(config, SourceConfig(topic=name), name) for _ in range(2))
    told, theirs = Told(), Told()
    first.open(told)
    until(lambda: len(told.owned) == 2, lambda: first.poll(20))
    before = first.group_metadata()
    second.open(theirs)
    until(lambda: len(told.owned) == 1 and len(theirs.owned) == 1, lambda: (first.poll(20), second.poll(20)))
    (kept,), (gone,) = told.owned, theirs.owned
    first.group_metadata = lambda: before  # type: ignore[method-assign]
    sink = KafkaSink(config, {"alerts": alerts}, first, "exactly_once", f"{name}-0")
    with pytest.raises(TransactionFailed):
        sink.commit({gone: 7})
    sink.abort()
    sink.send("alerts", [Message(b"k", b"kept", [])])
    if protocol == "consumer":
        sink.commit({kept: 5})
    else:
        with pytest.raises(TransactionFailed):
            sink.commit({kept: 5})
    passed = protocol == "consumer"
    assert [row.value() for row in committed(alerts)] == [b"kept"] * passed
    assert second.committed([kept, gone]) == {kept: 5 if passed else None, gone: None}
    sink.close()
    for source in (first, second):
        source.close()


@pytest.mark.parametrize("protocols", [("classic", "consumer"), ("consumer", "classic")])
def test_a_group_goes_from_one_protocol_to_the_other_while_it_works(
    kafka: str, name: str, create_topic: Any, protocols: tuple[Protocol, Protocol]
) -> None:
    create_topic(name, 4)
    old, new = (KafkaSource(group_of(kafka, protocol), SourceConfig(topic=name), name) for protocol in protocols)
    told, then = Told(old), Told(new)
    old.open(told)
    until(lambda: len(told.owned) == 4, lambda: old.poll(20))
    new.open(then)
    until(lambda: len(told.owned) == len(then.owned) == 2, lambda: (old.poll(20), new.poll(20)))
    assert not told.owned & then.owned
    for source, listener, offset in ((old, told, 3), (new, then, 4)):
        sink = KafkaSink(group_of(kafka, "consumer"), {}, source, "exactly_once", f"{name}-{offset}")
        sink.commit(dict.fromkeys(listener.owned, offset))
        sink.close()
    kept = {**dict.fromkeys(told.owned, 3), **dict.fromkeys(then.owned, 4)}
    old.close()
    until(lambda: len(then.owned) == 4, lambda: new.poll(20))
    assert new.committed(range(4)) == kept
    new.close()


@pytest.fixture
def old_broker() -> Iterator[str]:
    broker = KafkaBroker({"group.coordinator.rebalance.protocols": "classic"})
    try:
        broker.start()
        yield broker.bootstrap
    finally:
        broker.remove()


def test_brokers_that_know_only_the_classic_protocol_are_named_with_the_key(old_broker: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": old_broker})
    admin.create_topics([NewTopic(name, 1)])[name].result(30)
    source = KafkaSource(group_of(old_broker, "consumer"), SourceConfig(topic=name), name)
    source.open(Told())
    with pytest.raises(ConnectionFailed, match=r'kafka\.group_protocol: .* set "classic"'):
        until(lambda: False, lambda: source.poll(20))


@pytest.fixture(params=[[0], []], ids=["3.9", "3.6"])
def older_still(request: pytest.FixtureRequest) -> Iterator[str]:
    """Knows the first version of a member's heartbeat, or none: librdkafka's own cluster, made to say so."""
    (path,) = (Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka-*.so*")
    kafka = ctypes.CDLL(str(path))
    for name in ("conf_new", "new", "mock_cluster_new"):
        getattr(kafka, f"rd_kafka_{name}").restype = ctypes.c_void_p
    kafka.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    host = ctypes.c_void_p(kafka.rd_kafka_new(0, ctypes.c_void_p(kafka.rd_kafka_conf_new()), None, 0))
    cluster = ctypes.c_void_p(kafka.rd_kafka_mock_cluster_new(host, 1))
    newest = max(request.param, default=-1)
    kafka.rd_kafka_mock_set_apiversion(cluster, ctypes.c_int16(HEARTBEAT), min(newest, 0), newest)
    yield kafka.rd_kafka_mock_cluster_bootstraps(cluster).decode()
    kafka.rd_kafka_mock_cluster_destroy(cluster)
    kafka.rd_kafka_destroy(host)


def test_brokers_of_before_the_newer_protocol_are_named_with_the_key(older_still: str, kafka: str) -> None:
    with pytest.raises(ConnectionFailed, match=r'kafka\.group_protocol: .* does not know .* set "classic"'):
        require_protocol(group_of(older_still, "consumer"))
    require_protocol(group_of(older_still, "classic"))
    require_protocol(group_of(kafka, "consumer"))


def test_times_that_the_broker_sets_are_refused_with_the_key(kafka: str, name: str, create_topic: Any) -> None:
    config = group_of(kafka, "consumer").model_copy(update={"options": {"session.timeout.ms": 6000}})
    with pytest.raises(ConfigError, match=r"kafka\.options\.session\.timeout\.ms: .* defined broker side"):
        KafkaSource(config, SourceConfig(topic=create_topic(name)), name).open(Told())
