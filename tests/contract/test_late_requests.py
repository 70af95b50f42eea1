"""A request whose connection is lost may reach the broker late, within the next transaction: it does no harm there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stream_ad.batch import Message
from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import Fenced
from stream_ad.io.kafka import sink as kafka_sink
from stream_ad.io.kafka.sink import KafkaSink
from stream_ad.io.kafka.source import KafkaSource
from stream_ad.protocols import Role
from tests.chaos.servers import Servers
from tests.support.clock import Clock
from tests.support.listening import Told
from tests.support.reading import read_committed
from tests.support.requests import END_TXN, INIT_PRODUCER_ID, NONE, TXN_OFFSET_COMMIT, Requests, servers
from tests.support.waiting import WAIT_S, until


@pytest.fixture
def on() -> Iterator[tuple[Servers, Requests]]:
    with servers() as made:
        yield made


@pytest.mark.parametrize("held", [TXN_OFFSET_COMMIT, END_TXN])
def test_a_request_that_comes_late_is_none_of_the_next_transaction(
    on: tuple[Servers, Requests], name: str, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    servers, requests = on

    class Producer(kafka_sink.Producer):  # type: ignore[misc, name-defined]
        def _late(self) -> None:
            if requests.held == NONE and second.is_set():
                self.flush(30)
                requests.due.set()
                assert requests.answered.wait(WAIT_S)

        def commit_transaction(self, *arguments: Any) -> None:
            self._late()
            super().commit_transaction(*arguments)

        def abort_transaction(self, *arguments: Any) -> None:
            self._late()
            super().abort_transaction(*arguments)

    second = threading.Event()
    monkeypatch.setattr(kafka_sink, "Producer", Producer)
    servers.create_topic(name, 2)
    servers.create_topic(f"{name}.alerts", 1)
    config = Kafka(brokers=servers.brokers)
    source, told = KafkaSource(config, SourceConfig(topic=name), name), Told()
    source.open(told)
    until(lambda: len(told.owned) == 2, lambda: source.poll(20))
    sink = KafkaSink(config, {"alerts": f"{name}.alerts"}, source, "exactly_once", f"{name}-0")
    sink.send("alerts", [Message(b"k", b"first", [])])
    requests.held = held
    sink.commit({0: 10, 1: 10})
    assert requests.held == NONE
    second.set()
    sink.send("alerts", [Message(b"k", b"second", [])])
    if held == TXN_OFFSET_COMMIT:
        sink.commit({0: 20, 1: 20})
        assert source.committed([0, 1]) == {0: 20, 1: 20}, "they went back"
    else:
        sink.abort()
        found = [row.value() for row in read_committed(servers.direct, f"{name}.alerts")]
        assert found == [b"first"], "told without its offsets"
    sink.close()
    source.close()


def test_a_late_request_of_our_own_can_fence_us_once(on: tuple[Servers, Requests], name: str) -> None:
    servers, requests = on
    servers.create_topic(name, 1)
    topics: dict[Role, str] = {"alerts": f"{name}.alerts"}
    servers.create_topic(topics["alerts"], 1)
    config = Kafka(brokers=servers.brokers)
    source, told = KafkaSource(config, SourceConfig(topic=name), name), Told()
    source.open(told)
    until(lambda: told.owned == {0}, lambda: source.poll(20))
    # a coordinator that still loads its log would refuse the late request
    KafkaSink(config, topics, source, "exactly_once", f"{name}-0").close()
    requests.held = INIT_PRODUCER_ID
    sink = KafkaSink(config, topics, source, "exactly_once", f"{name}-0", clock=Clock())
    assert requests.held == NONE
    sink.send("alerts", [Message(b"k", b"never", [])])
    requests.due.set()
    assert requests.answered.wait(WAIT_S)
    with pytest.raises(Fenced):
        sink.commit({0: 1})
    sink.close()
    sink = KafkaSink(config, topics, source, "exactly_once", f"{name}-0")
    sink.commit({0: 1})
    assert read_committed(servers.direct, topics["alerts"]) == []
    assert source.committed([0]) == {0: 1}
    sink.close()
    source.close()
