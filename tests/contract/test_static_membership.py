"""`kafka.static_membership` on a real broker: a quick restart keeps its partitions, and nobody else notices."""

from __future__ import annotations

from typing import Any

import pytest

from stream_ad.config import Source as SourceConfig
from stream_ad.errors import ConnectionFailed, Unreachable
from stream_ad.io.kafka.source import KafkaSource
from tests.support.listening import Protocol, Told, group_of
from tests.support.waiting import until


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_quick_restart_moves_no_partition(kafka: str, name: str, create_topic: Any, protocol: Protocol) -> None:
    create_topic(name, 4)
    config = group_of(kafka, protocol, static_membership=True)
    sources = [KafkaSource(config, SourceConfig(topic=name), name, worker) for worker in range(2)]
    told = [Told(), Told()]
    for source, listener in zip(sources, told, strict=True):
        source.open(listener)
    until(lambda: all(len(one.owned) == 2 for one in told), lambda: [source.poll(20) for source in sources])
    before, calls = set(told[0].owned), len(told[1].calls)
    sources[0].close()
    again = Told()
    sources[0].open(again)
    until(lambda: len(again.owned) == 2, lambda: [source.poll(20) for source in sources])
    assert again.owned == before
    assert len(told[1].calls) == calls, "the other worker had to give up or take over something"
    for source in sources:
        source.close()


def test_two_processes_under_one_name_are_told_apart(kafka: str, name: str, create_topic: Any) -> None:
    create_topic(name)
    config = group_of(kafka, "classic", static_membership=True)
    first, second = (KafkaSource(config, SourceConfig(topic=name), name) for _ in range(2))
    told = Told()
    first.open(told)
    until(lambda: told.owned, lambda: first.poll(20))
    second.open(Told())
    with pytest.raises(ConnectionFailed, match=r"kafka\.static_membership: another process works under"):
        until(lambda: False, lambda: (second.poll(20), first.poll(20)))
    second.close()


def test_who_comes_before_its_predecessor_has_left_waits(kafka: str, name: str, create_topic: Any) -> None:
    create_topic(name)
    config = group_of(kafka, "consumer", static_membership=True)
    first, second = (KafkaSource(config, SourceConfig(topic=name), name) for _ in range(2))
    told, then = Told(), Told()
    first.open(told)
    until(lambda: told.owned, lambda: first.poll(20))
    second.open(then)
    with pytest.raises(
        Unreachable, match=r"kafka\.static_membership: an earlier process is still a member under this worker's name"
    ):
        until(lambda: False, lambda: (first.poll(20), second.poll(20)))
    assert told.owned
    second.close()
    first.close()
    second.open(then)
    until(lambda: then.owned, lambda: second.poll(20))
    second.close()
