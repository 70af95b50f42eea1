"""A request whose connection is lost may reach the broker late, within the next transaction: it does no harm there."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stream_ad.batch import Message
from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import Fenced
from stream_ad.io import kafka_sink
from stream_ad.io.kafka_sink import KafkaSink
from stream_ad.io.kafka_source import KafkaSource
from stream_ad.protocols import Role
from tests.chaos.proxy import Proxy, _reset
from tests.chaos.servers import Servers
from tests.contract.test_source import Told, until
from tests.reading import read_committed

TXN_OFFSET_COMMIT, END_TXN, INIT_PRODUCER_ID = 28, 26, 22  # kinds of requests


class Late(Proxy):
    """The first request of the kind `held` costs its connection, and is passed on when that is `due`."""

    held = -1
    due = threading.Event()
    answered = threading.Event()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        gone = threading.Event()

        def back() -> None:
            with server, contextlib.suppress(OSError):
                while data := server.recv(1 << 16):
                    if gone.is_set():
                        Late.answered.set()
                    else:
                        client.sendall(data)

        threading.Thread(target=back, daemon=True).start()
        with contextlib.suppress(OSError):
            while request := self._request(client):
                if int.from_bytes(request[4:6]) == Late.held:
                    Late.held = -1
                    gone.set()
                    _reset(client)
                    Late.due.wait()
                server.sendall(request)

    def _request(self, client: socket.socket) -> bytes:
        head = client.recv(4, socket.MSG_WAITALL)
        return head + client.recv(int.from_bytes(head), socket.MSG_WAITALL) if head else b""


@pytest.fixture
def servers() -> Iterator[Servers]:
    Late.held = -1
    Late.due.clear()
    Late.answered.clear()
    made = Servers(Late)
    yield made
    Late.due.set()
    made.close()


@pytest.mark.parametrize("held", [TXN_OFFSET_COMMIT, END_TXN])
def test_a_request_that_comes_late_is_none_of_the_next_transaction(
    servers: Servers, name: str, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    class Producer(kafka_sink.Producer):  # type: ignore[misc, name-defined]
        def _late(self) -> None:
            if Late.held == -1 and second.is_set():
                self.flush(30)
                Late.due.set()
                assert Late.answered.wait(30)

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
    Late.held = held
    sink.commit({0: 10, 1: 10})
    assert Late.held == -1
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


def test_a_late_request_of_our_own_can_fence_us_once(servers: Servers, name: str) -> None:
    servers.create_topic(name, 1)
    topics: dict[Role, str] = {"alerts": f"{name}.alerts"}
    servers.create_topic(topics["alerts"], 1)
    config = Kafka(brokers=servers.brokers)
    source, told = KafkaSource(config, SourceConfig(topic=name), name), Told()
    source.open(told)
    until(lambda: told.owned == {0}, lambda: source.poll(20))
    Late.held = INIT_PRODUCER_ID
    sink = KafkaSink(config, topics, source, "exactly_once", f"{name}-0")
    assert Late.held == -1
    sink.send("alerts", [Message(b"k", b"never", [])])
    Late.due.set()
    assert Late.answered.wait(30)
    with pytest.raises(Fenced):
        sink.commit({0: 1})
    sink.close()
    sink = KafkaSink(config, topics, source, "exactly_once", f"{name}-0")
    sink.commit({0: 1})
    assert read_committed(servers.direct, topics["alerts"]) == []
    assert source.committed([0]) == {0: 1}
    sink.close()
    source.close()
