"""Batches that are small on the wire and large once they are unpacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stream_ad.batch import RawBatch
from stream_ad.codec.decoded import nbytes
from stream_ad.config import Kafka
from stream_ad.config import Source as SourceConfig
from stream_ad.errors import InputError
from stream_ad.io.kafka import read, records
from stream_ad.io.kafka.range import KafkaRange, range_of
from stream_ad.io.kafka.source import KafkaSource
from stream_ad.io.seeks import FromTheStart
from tests.support.compressed import batch, send
from tests.support.waiting import until

LARGE = [b"x" * 400_000] * 240  # the client's default could not unpack it: see `client.READING`
RECEIVED = "receive.message.max.bytes"


@pytest.fixture
def topic(kafka: str, name: str, create_topic: Any) -> str:
    create_topic(name)
    for values in ([b"{}"], LARGE, [b"{}"]):
        send(kafka, name, 0, batch(values, "zstd"))
    return name


def from_the_group(kafka: Kafka, topic: str) -> list[RawBatch]:
    source = KafkaSource(kafka, SourceConfig(topic=topic), topic)
    batches: list[RawBatch] = []
    source.open(FromTheStart(source))
    try:
        until(
            lambda: bool(batches) and batches[-1].next_offset > len(LARGE) + 1, lambda: batches.extend(source.poll(20))
        )
    finally:
        source.close()
    return batches


def from_a_range(kafka: Kafka, topic: str) -> list[RawBatch]:
    source = KafkaRange(kafka, topic, *range_of(kafka, topic))
    batches: list[RawBatch] = []
    source.open(FromTheStart(source))
    try:
        until(source.finished, lambda: batches.extend(source.poll(20)))
    finally:
        source.close()
    return batches


@pytest.mark.parametrize("taken", [from_the_group, from_a_range])
def test_a_batch_that_unpacks_to_a_hundred_megabytes_is_read_in_parts(
    kafka: str, topic: str, taken: Callable[[Kafka, str], list[RawBatch]]
) -> None:
    batches = taken(Kafka(brokers=kafka), topic)
    assert [value for one in batches for value in one.value] == [b"{}", *LARGE, b"{}"]
    assert max(map(nbytes, batches)) < 2 * records.POLL_BYTES
    assert len(batches) > 1


def sampled(kafka: Kafka, topic: str) -> None:
    read.committed(kafka, topic, "source.topic")


@pytest.mark.parametrize("taken", [from_the_group, from_a_range, sampled])
def test_a_batch_that_cannot_be_unpacked_is_an_error_with_its_place_and_the_key(
    kafka: str, topic: str, taken: Callable[[Kafka, str], object]
) -> None:
    with pytest.raises(InputError) as caught:
        taken(Kafka(brokers=kafka, options={RECEIVED: 100_000_000}), topic)
    said = str(caught.value)
    assert said.startswith(f"source.topic: the batch at {topic}/0/1 cannot be read")
    assert f'100000000 bytes of kafka.options."{RECEIVED}"' in said
