"""What the pipeline may expect of a sink and of the log of swaps, in memory and on a real broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from stream_ad.batch import Message
from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import Fenced, InputError, StreamAdError, TransactionFailed
from stream_ad.io.kafka.group import generation
from stream_ad.io.kafka.models import KafkaModelLog
from stream_ad.io.kafka.sink import TRANSACTION_S, KafkaSink
from stream_ad.io.kafka.source import KafkaSource
from stream_ad.io.memory import MemoryCluster, MemoryModelLog, MemorySink
from stream_ad.messages.models import PART_BYTES, encode_bundle, encode_swap
from stream_ad.protocols import ModelLog, Role, Sink, Swap
from tests.support.clock import Clock
from tests.support.listening import Told
from tests.support.waiting import pause, until

ROLES: tuple[Role, ...] = ("alerts", "rejects", "models", "bundles")


@dataclass
class World:
    sink: Callable[[str], Sink]  # by transactional id
    visible: Callable[..., list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]]]  # of a role
    offsets: Callable[[], Mapping[int, int | None]]
    log: ModelLog


@pytest.fixture(params=["memory", "kafka"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        cluster = MemoryCluster()
        yield World(
            lambda name: MemorySink(cluster, name),
            lambda role, undecided=False: [(row.key, row.value, row.headers) for row in cluster.published[role]],
            lambda: {part: cluster.offsets.get(part) for part in range(2)},
            MemoryModelLog(cluster),
        )
        return
    topic, create = request.getfixturevalue("name"), request.getfixturevalue("create_topic")
    committed = request.getfixturevalue("committed")
    create(topic, 2)
    topics: dict[Role, str] = {role: create(f"{topic}.{role}") for role in ROLES}
    config = Kafka(brokers=request.getfixturevalue("kafka"))
    source, told = KafkaSource(config, SourceConfig(topic=topic), topic), Told()
    source.open(told)
    until(lambda: told.owned, lambda: source.poll(20))
    made: list[KafkaSink] = []

    def sink(name: str) -> Sink:
        made.append(KafkaSink(config, topics, source, "exactly_once", f"{topic}-{name}"))
        return made[-1]

    yield World(
        sink,
        lambda role, undecided=False: [
            (row.key(), row.value(), row.headers() or []) for row in committed(topics[role], undecided)
        ],
        source.progress,
        KafkaModelLog(config, topics["models"], topics["bundles"]),
    )
    for each in made:
        each.close()
    source.close()


def message(text: bytes) -> Message:
    return Message(b"key", text, [("a", b"1"), ("b", None)])


def seen(text: bytes) -> tuple[bytes, bytes, list[tuple[str, bytes | None]]]:
    return (b"key", text, [("a", b"1"), ("b", None)])


def test_visible_with_the_offsets_only(world: World) -> None:
    sink = world.sink("0")
    sink.send("alerts", [message(b"1"), message(b"2")])
    sink.send("rejects", [message(b"r")])
    assert world.visible("alerts", undecided=True) == []
    assert world.offsets() == {0: None, 1: None}
    sink.commit({0: 17})
    assert world.visible("alerts") == [seen(b"1"), seen(b"2")]
    assert world.visible("rejects") == [seen(b"r")]
    assert world.offsets() == {0: 17, 1: None}


def test_progress_without_messages_and_messages_without_progress(world: World) -> None:
    sink = world.sink("0")
    sink.commit({})
    sink.commit({0: 1, 1: 2})
    assert world.offsets() == {0: 1, 1: 2}
    sink.send("alerts", [])
    sink.commit({0: 1, 1: 2})
    sink.send("alerts", [message(b"1")])
    sink.commit({0: 1, 1: 2})
    assert world.visible("alerts") == [seen(b"1")]


def test_aborted_is_never_seen_and_the_sink_goes_on(world: World) -> None:
    sink = world.sink("0")
    sink.abort()
    sink.send("alerts", [message(b"never")])
    sink.abort()
    sink.send("alerts", [message(b"1")])
    sink.commit({0: 5})
    assert world.visible("alerts") == [seen(b"1")]


def test_closed_without_commit_is_never_seen(world: World) -> None:
    sink = world.sink("0")
    sink.send("alerts", [message(b"never")])
    sink.close()
    again = world.sink("0")
    again.send("alerts", [message(b"1")])
    again.commit({1: 1})
    assert world.visible("alerts") == [seen(b"1")]


def test_a_zombie_commits_nothing(world: World) -> None:
    zombie = world.sink("0")
    zombie.commit({0: 1})
    zombie.send("alerts", [message(b"never")])
    heir = world.sink("0")
    heir.send("alerts", [message(b"1")])
    heir.commit({0: 3})
    with pytest.raises(TransactionFailed, match="another process works as"):
        zombie.commit({0: 2})
    assert world.visible("alerts") == [seen(b"1")]
    assert world.offsets()[0] == 3
    heir.send("alerts", [message(b"2")])
    heir.commit({0: 4})
    assert world.visible("alerts") == [seen(b"1"), seen(b"2")]


def test_two_workers_do_not_disturb_each_other(world: World) -> None:
    one, two = world.sink("1"), world.sink("2")
    one.send("alerts", [message(b"1")])
    two.send("alerts", [message(b"2")])
    two.commit({1: 2})
    one.abort()
    assert world.visible("alerts") == [seen(b"2")]
    assert world.offsets() == {0: None, 1: 2}


def test_swaps_are_read_back_as_committed_by_partition_and_offset(world: World) -> None:
    assert world.log.swaps([0, 1]) == {0: [], 1: []}
    sink = world.sink("0")
    sink.send("models", [encode_swap(Swap(1, 50, "b")), encode_swap(Swap(0, 7, "a"))])
    sink.commit({0: 8, 1: 51})
    sink.send("models", [encode_swap(Swap(0, 30, "never"))])
    sink.abort()
    # a crash before the commit, and the restart decided otherwise at the same place
    sink.send("models", [encode_swap(Swap(0, 20, "b")), encode_swap(Swap(1, 10, "a")), encode_swap(Swap(1, 50, "c"))])
    sink.commit({0: 21, 1: 52})
    assert world.log.swaps([0, 1, 2]) == {
        0: [Swap(0, 7, "a"), Swap(0, 20, "b")],
        1: [Swap(1, 10, "a"), Swap(1, 50, "c")],
        2: [],
    }


def test_bundles_are_read_back_whole_or_not_at_all(world: World) -> None:
    large, small = bytes(range(256)) * (PART_BYTES // 100), b"small"
    sink = world.sink("0")
    assert world.log.bundle("v1") is None
    sink.send("bundles", encode_bundle("v1", large))
    sink.send("bundles", encode_bundle("v2", small))
    sink.send("bundles", encode_bundle("v3", large)[:-1])
    sink.commit({0: 1})
    sink.send("bundles", encode_bundle("v4", small))
    sink.abort()
    sink.send("bundles", encode_bundle("v1", large))  # as another worker may
    sink.commit({0: 2})
    assert len(encode_bundle("v1", large)) > 2
    assert world.log.bundle("v1") == large
    assert world.log.bundle("v2") == small
    assert world.log.bundle("v3") is None, "cut short"
    assert world.log.bundle("v4") is None, "never committed"


@pytest.fixture
def source(kafka: str, name: str, create_topic: Any) -> Iterator[KafkaSource]:
    create_topic(name)
    made, told = KafkaSource(Kafka(brokers=kafka), SourceConfig(topic=name), name), Told()
    made.open(told)
    until(lambda: told.owned, lambda: made.poll(20))
    yield made
    made.close()


def test_at_least_once_is_visible_first_and_committed_by_the_polling_thread(
    kafka: str, name: str, create_topic: Any, committed: Any, source: KafkaSource
) -> None:
    topics: dict[Role, str] = {"alerts": create_topic(f"{name}.alerts")}
    sink = KafkaSink(Kafka(brokers=kafka), topics, source, "at_least_once")
    sink.send("alerts", [message(b"1")])
    sink.commit({0: 3})
    assert [row.value() for row in committed(topics["alerts"])] == [b"1"]
    source.poll(0)
    assert source.progress() == {0: 3}
    sink.commit({0: 4})
    source.close()
    assert source.progress() == {0: 4}, "close() commits what is due"
    sink.close()


def test_a_group_that_went_on_without_us_refuses_our_offsets(
    kafka: str, name: str, create_topic: Any, committed: Any, source: KafkaSource
) -> None:
    """KIP-447: who left the group commits nothing, whatever its transactional id."""
    topics: dict[Role, str] = {"alerts": create_topic(f"{name}.alerts")}
    sink = KafkaSink(Kafka(brokers=kafka), topics, source, "exactly_once", f"{name}-0")
    stale = source.group_metadata()
    source.close()
    source.open(Told())
    source.poll(200)
    source.group_metadata = lambda: stale  # type: ignore[method-assign]
    sink.send("alerts", [message(b"never")])
    with pytest.raises(TransactionFailed):
        sink.commit({0: 1})
    assert committed(topics["alerts"]) == []
    assert source.progress() == {0: None}
    sink.close()


@pytest.mark.parametrize(("age_s", "raised"), [(TRANSACTION_S - 1, Fenced), (TRANSACTION_S, TransactionFailed)])
def test_who_is_fenced_says_so_and_publishes_nothing(
    kafka: str, name: str, create_topic: Any, committed: Any, source: KafkaSource, age_s: float, raised: type[Exception]
) -> None:
    """Only a young producer was fenced by somebody else for sure: an older one may have timed out."""
    topics: dict[Role, str] = {"alerts": create_topic(f"{name}.alerts")}
    clock = Clock()
    first = KafkaSink(Kafka(brokers=kafka), topics, source, "exactly_once", f"{name}-0", clock=clock)
    first.send("alerts", [message(b"never")])
    second = KafkaSink(Kafka(brokers=kafka), topics, source, "exactly_once", f"{name}-0")
    clock.pass_by(age_s)
    with pytest.raises(TransactionFailed, match=f"another process works as '{name}-0'") as failed:
        first.commit({0: 1})
    assert failed.type is raised
    first.abort()
    first.close()
    second.send("alerts", [message(b"1")])
    second.commit({0: 1})
    second.close()
    assert [row.value() for row in committed(topics["alerts"])] == [b"1"]


def test_a_missing_topic_is_named_with_its_key(kafka: str, name: str, source: KafkaSource) -> None:
    config = Kafka(brokers=kafka, options={"topic.metadata.propagation.max.ms": 200})
    sink = KafkaSink(config, {"alerts": f"{name}.none"}, source, "exactly_once", f"{name}-0")
    with pytest.raises(StreamAdError, match=r"sink\.alerts: no topic"):
        until(lambda: False, lambda: (sink.send("alerts", [message(b"1")]), pause(), sink.commit({0: 1})))
    sink.close()


def test_other_records_among_the_swaps_are_an_error_that_says_where(kafka: str, name: str, create_topic: Any) -> None:
    create_topic(name)
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True})
    producer.produce(name, b"garbage")
    producer.flush(10)
    with pytest.raises(InputError, match=f"{name}/0/0: "):
        KafkaModelLog(Kafka(brokers=kafka), name, f"{name}.none").swaps([0])


def test_who_is_no_member_yet_commits_nothing(kafka: str, name: str, create_topic: Any, source: KafkaSource) -> None:
    """Without a generation it would count as a commit from outside of the group, and pass."""
    late = KafkaSource(Kafka(brokers=kafka), SourceConfig(topic=name), name)
    late.open(Told())
    assert late.group_metadata() is None
    assert generation(source.group_metadata()) > 0
    stranger = Consumer({"bootstrap.servers": kafka, "group.id": name})
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": f"{name}-0"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(name, 0, 5)], stranger.consumer_group_metadata(), 30)
    producer.commit_transaction(30)
    assert source.committed([0]) == {0: 5}, "it would not: the guard is not needed any more"
    stranger.close()
    late.close()
