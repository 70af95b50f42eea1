"""What the pipeline may expect of a source, on the in-memory one and on a real consumer group."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from stream_ad.batch import RawBatch
from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.io.kafka.range import KafkaRange, range_of
from stream_ad.io.kafka.sink import KafkaSink
from stream_ad.io.kafka.source import KafkaSource
from stream_ad.io.memory import MemoryCluster, MemorySink, MemorySource, Record
from stream_ad.protocols import Sink, Source
from tests.support.listening import Protocol, Told, group_of
from tests.support.waiting import until

ROWS: dict[int, list[tuple[bytes | None, bytes | None]]] = {
    0: [(b"a", b"%d" % row) for row in range(300)],
    1: [(None, b"no key"), (b"b", None), (None, None), (b"b", b"\xff\x00")],
    2: [],
}


@dataclass
class World:
    """Sources over one topic, a sink that commits for them, and a second member for the group."""

    source: Callable[[], Source]
    sink: Callable[[Source], Sink]
    join: Callable[[Source, Told], None]  # somebody else takes some partitions
    leave: Callable[[Source, Told], None]  # and gives them back


@pytest.fixture(params=["memory", "consumer", "classic"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    yield from memory_world(request) if request.param == "memory" else kafka_world(request, request.param)


def memory_world(request: pytest.FixtureRequest) -> Iterator[World]:
    cluster = MemoryCluster()
    headers = [("h", b"1"), ("h", None)]
    records = {
        part: [Record(key, value, 1000 + row, headers) for row, (key, value) in enumerate(rows)]
        for part, rows in ROWS.items()
    }

    def join(source: Source, told: Told) -> None:
        assert isinstance(source, MemorySource)
        source.rebalance([0])
        source.poll(0)

    def leave(source: Source, told: Told) -> None:
        assert isinstance(source, MemorySource)
        source.rebalance(sorted(ROWS))
        source.poll(0)

    yield World(lambda: MemorySource("t", records, cluster, poll_rows=7), lambda _: MemorySink(cluster), join, leave)


def kafka_world(request: pytest.FixtureRequest, protocol: Protocol) -> Iterator[World]:
    bootstrap = request.getfixturevalue("kafka")
    topic = request.getfixturevalue("name")
    request.getfixturevalue("create_topic")(topic, len(ROWS))
    publish = request.getfixturevalue("publish")
    config = group_of(bootstrap, protocol)
    for part, rows in ROWS.items():
        for row, (key, value) in enumerate(rows):
            if part or not row:
                publish(topic, [(part, key, value)], timestamp=1000 + row, headers=[("h", b"1"), ("h", None)])
        if not part:
            publish(topic, [(part, *row) for row in rows[1:]])
    opened: list[Any] = []

    def source() -> KafkaSource:
        made = KafkaSource(config, SourceConfig(topic=topic), topic)
        opened.append(made)
        return made

    def sink(of: Source) -> KafkaSink:
        assert isinstance(of, KafkaSource)
        made = KafkaSink(config, {}, of, "exactly_once", f"{topic}-0")
        opened.insert(0, made)
        return made

    def join(first: Source, told: Told) -> None:
        other = source()
        theirs = Told(other)
        other.open(theirs)
        until(lambda: len(told.owned) < len(ROWS) and theirs.owned, lambda: (first.poll(20), other.poll(20)))

    def leave(first: Source, told: Told) -> None:
        opened[-1].close()
        until(lambda: len(told.owned) == len(ROWS), lambda: first.poll(20))

    yield World(source, sink, join, leave)
    for made in opened:
        made.close()


def read(source: Source, ends: Mapping[int, int]) -> dict[int, list[RawBatch]]:
    """Polls until every partition is at its end."""
    found: dict[int, list[RawBatch]] = {part: [] for part in ends}

    def behind() -> bool:
        return any((found[part][-1].next_offset if found[part] else 0) < end for part, end in ends.items())

    def step() -> None:
        batches = source.poll(50)
        assert len({batch.partition for batch in batches}) == len(batches)
        for batch in batches:
            found.setdefault(batch.partition, []).append(batch)

    until(lambda: not behind(), step)
    return found


def rows(batches: list[RawBatch]) -> list[tuple[int, bytes | None, bytes | None]]:
    return [
        (offset, key, value)
        for batch in batches
        for offset, key, value in zip(batch.offset.tolist(), batch.key, batch.value, strict=True)
    ]


ENDS = {part: len(rows) for part, rows in ROWS.items()}
ALL = {part: [(row, *pair) for row, pair in enumerate(rows)] for part, rows in ROWS.items()}


def test_gives_every_record_once_in_order_with_nulls_as_they_are(world: World) -> None:
    source = world.source()
    told = Told(source)
    source.open(told)
    found = read(source, ENDS)
    assert {part: rows(batches) for part, batches in found.items()} == ALL
    assert told.calls[0] == ("assigned", {0: None, 1: None, 2: None})
    for batches in found.values():
        for batch in batches:
            assert batch.topic == source.topic
            assert not len(batch) or batch.next_offset > batch.offset[-1]
    source.close()
    assert not told.owned, "close() gives everything up in order"


def test_knows_times_and_headers(world: World) -> None:
    source = world.source()
    source.open(Told(source))
    first = next(batch for batch in read(source, ENDS)[1] if len(batch))
    assert first.timestamp_ms.tolist() == [1000 + row for row in range(len(first))]
    assert first.headers(0) == [("h", b"1"), ("h", None)]
    source.close()


def test_starts_where_the_listener_says(world: World) -> None:
    source = world.source()
    source.open(Told(source, start={0: 123, 1: 2}))
    found = read(source, ENDS)
    assert rows(found[0]) == ALL[0][123:]
    assert rows(found[1]) == ALL[1][2:]
    source.close()


def test_resumes_at_what_was_committed(world: World) -> None:
    source = world.source()
    source.open(Told(source))
    read(source, ENDS)
    sink = world.sink(source)
    sink.commit({0: 250, 1: 4})
    source.close()
    told = Told(source)
    source.open(told)
    assert rows(read(source, {0: 300})[0]) == ALL[0][250:]
    assert told.calls[0] == ("assigned", {0: 250, 1: 4, 2: None})
    source.close()
    sink.close()


def test_partitions_are_given_up_in_order_and_nothing_more_of_them_is_read(world: World) -> None:
    source = world.source()
    told = Told(source)
    source.open(told)
    until(lambda: told.owned == set(ROWS), lambda: source.poll(20))
    world.join(source, told)
    gone = set(ROWS) - told.owned
    assert gone
    assert {part for kind, parts in told.calls if kind == "revoked" for part in parts} == gone
    for _ in range(5):
        assert not {batch.partition for batch in source.poll(20)} & gone
    source.close()


def test_nothing_is_read_before_it_is_said_from_where_and_the_others_go_on(world: World) -> None:
    source = world.source()
    told = Told(source, later=True)
    source.open(told)
    until(lambda: told.owned == set(ROWS), lambda: source.poll(20))
    assert not source.finished()
    for _ in range(5):
        assert source.poll(20) == []
    starting = threading.Thread(target=told.begin, args=([1],))  # as the pipeline does, which does not poll
    starting.start()
    assert rows(read(source, {1: ENDS[1]})[1]) == ALL[1]
    starting.join()
    for _ in range(5):
        assert not {batch.partition for batch in source.poll(20)} - {1}
    told.begin([0])
    assert rows(read(source, {0: ENDS[0]})[0]) == ALL[0]
    source.close()
    assert not told.owned


def test_what_is_given_up_before_it_is_read_comes_back_as_new(world: World) -> None:
    """What was said of it in its first time does not count in its second."""
    source = world.source()
    told = Told(source, later=True)
    source.open(told)
    until(lambda: told.owned == set(ROWS), lambda: source.poll(20))
    late = Told(source, start=dict.fromkeys(ROWS, 2))
    world.join(source, told)
    gone = sorted(set(ROWS) - told.owned)
    for _ in range(3):
        assert source.poll(20) == []
    world.leave(source, told)
    assert told.owned == set(ROWS)
    for _ in range(5):
        assert source.poll(20) == []
    late.begin(sorted(ROWS))
    found = read(source, {part: ENDS[part] for part in (0, 1)})
    assert {part: rows(batches) for part, batches in found.items() if part < 2} == {0: ALL[0][2:], 1: ALL[1][2:]}
    assert gone
    source.close()


def test_a_start_that_was_said_before_a_partition_was_given_up_is_void() -> None:
    source = MemorySource("t", {0: [Record(b"", b"0"), Record(b"", b"1")]})
    told = Told(source, later=True)
    source.open(told)
    source.poll(0)
    source.start({0: 1})
    source.rebalance([])
    source.poll(0)
    source.rebalance([0])
    for _ in range(3):
        assert source.poll(0) == []
    told.begin([0])
    assert rows(source.poll(0)) == [(0, b"", b"0"), (1, b"", b"1")]


def test_memory_tells_of_loss() -> None:
    source = MemorySource("t", {0: [], 1: []})
    told = Told(source)
    source.open(told)
    source.poll(0)
    source.lose([1])
    source.poll(0)
    assert told.calls[-1] == ("lost", {1: None})
    assert told.owned == {0}
    with pytest.raises(ValueError, match="offset 3"):
        MemorySource("t", {0: [Record(b"", b"", offset=5), Record(b"", b"", offset=3)]})


@pytest.mark.parametrize("kind", ["group", "range"])
def test_progress_passes_over_control_records_and_aborted_ones(
    kind: str, kafka: str, name: str, create_topic: Any, publish: Any
) -> None:
    """Three records, a commit marker, two that nobody may see, an abort marker: offset 7 is the end."""
    config = Kafka(brokers=kafka)
    create_topic(name)
    publish(name, [(0, b"k", b"%d" % row) for row in range(3)], transaction="commit")
    publish(name, [(0, b"k", b"never"), (0, b"k", b"never")], transaction="abort")
    start, stop = range_of(config, name)
    assert (start, stop) == ({0: 0}, {0: 7})
    source = (
        KafkaSource(config, SourceConfig(topic=name), name)
        if kind == "group"
        else KafkaRange(config, name, start, stop)
    )
    source.open(Told(source))
    found = read(source, stop)
    assert [value for _, _, value in rows(found[0])] == [b"0", b"1", b"2"]
    assert found[0][-1].next_offset == 7
    if kind == "range":
        assert source.finished()
    source.close()


def test_latest_starts_behind_what_is_there(kafka: str, name: str, create_topic: Any, publish: Any) -> None:
    config = Kafka(brokers=kafka)
    create_topic(name)
    publish(name, [(0, None, b"old")])
    source = KafkaSource(config, SourceConfig(topic=name, start="latest"), name)
    source.open(Told(source))
    batches: list[RawBatch] = []
    until(lambda: source.progress() == {0: 1}, lambda: batches.extend(source.poll(50)))
    publish(name, [(0, None, b"new")])
    until(lambda: batches, lambda: batches.extend(source.poll(50)))
    assert batches[0].value == [b"new"]
    source.close()


def test_what_is_added_to_a_topic_is_read_from_its_start_by_a_group_that_began_late(
    kafka: str, name: str, create_topic: Any, publish: Any
) -> None:
    config = Kafka(brokers=kafka, options={"topic.metadata.refresh.interval.ms": 500})
    create_topic(name)
    publish(name, [(0, None, b"old")])
    source = KafkaSource(config, SourceConfig(topic=name, start="latest"), name)
    told, batches = Told(source), []
    source.open(told)
    until(lambda: told.owned, lambda: batches.extend(source.poll(50)))
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_partitions([NewPartitions(name, 2)])[name].result(10)
    publish(name, [(1, None, b"before it is seen")])
    until(lambda: batches, lambda: batches.extend(source.poll(50)))
    assert [(batch.partition, batch.value) for batch in batches] == [(1, [b"before it is seen"])]
    source.close()


def test_a_range_ends_exactly_at_its_stop(kafka: str, name: str, create_topic: Any, publish: Any) -> None:
    config = Kafka(brokers=kafka)
    create_topic(name, 2)
    for row in range(20):
        publish(name, [(row % 2, None, b"%d" % row)], timestamp=1_700_000_000_000 + row)
    start, stop = range_of(config, name, 1_700_000_000_004, 1_700_000_000_011)
    assert (start, stop) == ({0: 2, 1: 2}, {0: 6, 1: 5})
    source = KafkaRange(config, name, start, stop)
    source.open(Told(source))
    values = [value for batches in read(source, stop).values() for _, _, value in rows(batches)]
    assert sorted(int(value or b"") for value in values) == [4, 5, 6, 7, 8, 9, 10]
    assert source.finished()
    source.close()
    assert range_of(config, name, 1_800_000_000_000) == ({0: 10, 1: 10}, {0: 10, 1: 10})
    empty = KafkaRange(config, name, {0: 10, 1: 10}, {0: 10, 1: 10})
    empty.open(Told(empty))
    assert empty.finished()
    empty.close()
