"""A broker that dies in the middle of a transaction and comes back: nothing is lost, nothing is published twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stream_ad.batch import Message
from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import ConnectionFailed, TransactionFailed, Unreachable
from stream_ad.io.kafka import sink as kafka_sink
from stream_ad.io.kafka.progress import GroupProgress
from stream_ad.io.kafka.sink import KafkaSink
from stream_ad.io.kafka.source import KafkaSource
from tests.support.listening import Protocol, Told, group_of
from tests.support.servers import KafkaBroker
from tests.support.waiting import until


@pytest.fixture
def broker() -> Iterator[KafkaBroker]:
    made = KafkaBroker()
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
def kafka(broker: KafkaBroker) -> str:
    """Only this module's: it is to be killed."""
    return broker.bootstrap


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_commit_cut_off_by_a_restart_fails_whole_and_the_sink_goes_on(
    broker: KafkaBroker,
    name: str,
    create_topic: Any,
    publish: Any,
    committed: Any,
    monkeypatch: pytest.MonkeyPatch,
    protocol: Protocol,
) -> None:
    monkeypatch.setattr(kafka_sink, "COMMIT_S", 2.0)
    monkeypatch.setattr(kafka_sink, "OFFSETS_S", 2.0)
    config = group_of(broker.bootstrap, protocol)
    create_topic(name)
    create_topic(f"{name}.alerts")
    publish(name, [(0, None, b"%d" % row) for row in range(10)])
    source, told = KafkaSource(config, SourceConfig(topic=name), name), Told()
    source.open(told)
    until(lambda: told.owned, lambda: source.poll(20))
    sink = KafkaSink(config, {"alerts": f"{name}.alerts"}, source, "exactly_once", f"{name}-0")
    sink.send("alerts", [Message(b"k", b"first", [])])
    sink.commit({0: 1})
    # a lone broker that is killed before it has written a commit's markers never writes them: let it finish
    assert [row.value() for row in committed(f"{name}.alerts")] == [b"first"]
    until(lambda: stable(source) == {0: 1}, lambda: source.poll(20))
    sink.send("alerts", [Message(b"k", b"second", [])])
    broker.kill()
    failed: list[TransactionFailed] = []

    def commit() -> None:
        try:
            sink.commit({0: 2})
        except TransactionFailed as error:
            failed.append(error)

    committing = threading.Thread(target=commit)
    committing.start()
    broker.start()
    committing.join()
    source.close()
    again = Told(source)
    source.open(again)
    until(lambda: again.owned, lambda: source.poll(20))
    assert again.calls[0] == ("assigned", {0: 1 if failed else 2})
    if failed:
        sink.abort()
        sink.send("alerts", [Message(b"k", b"second", [])])
        sink.commit({0: 2})
    assert [row.value() for row in committed(f"{name}.alerts")] == [b"first", b"second"]
    assert source.progress() == {0: 2}
    sink.close()
    source.close()


def stable(source: KafkaSource) -> dict[int, int | None] | None:
    try:
        return source.progress()
    except ConnectionFailed:
        return None


def test_progress_is_known_again_after_each_restart(broker: KafkaBroker, name: str, create_topic: Any) -> None:
    """The client went on asking leaders in the name of what they had been before, and was refused for ever."""
    create_topic(name, 4)
    progress = GroupProgress(Kafka(brokers=broker.bootstrap), name, name)

    def answers() -> bool:
        try:
            return progress.ask(range(4)) == (dict.fromkeys(range(4), 0), {})
        except Unreachable:
            return False

    until(answers, lambda: None)
    for _ in range(2):
        broker.kill()
        assert not answers()
        broker.start()
        until(answers, lambda: None)
