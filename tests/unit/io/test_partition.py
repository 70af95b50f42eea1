"""Keys lie where other clients put them."""

from __future__ import annotations

from confluent_kafka import Producer

from stream_ad.io.partition import murmur2, partition_of


def test_murmur2_is_that_of_the_java_client():
    # the vectors of org.apache.kafka.common.utils.UtilsTest.testMurmur2
    vectors = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    assert {key: partition_of(key, 0, 3) for key in vectors} == {
        key: (value & 0x7FFFFFFF) % 3 for key, value in vectors.items()
    }
    assert {key: murmur2(key) for key in vectors} == {key: value & 0xFFFFFFFF for key, value in vectors.items()}


def test_partitions_are_those_librdkafka_chooses():
    producer = Producer({"test.mock.num.brokers": 1, "partitioner": "murmur2", "log_level": 0})
    keys = [b"", b"a", b"kafka", *(b"card-%d" % i for i in range(200)), *(bytes([i] * (i % 9)) for i in range(256))]
    chosen: list[tuple[bytes, int]] = []
    for key in keys:
        producer.produce(
            "t", key=key, on_delivery=lambda error, message: chosen.append((message.key() or b"", message.partition()))
        )
    assert producer.flush(20) == 0
    assert len(chosen) == len(keys)
    assert {partition for _, partition in chosen} == {0, 1, 2, 3}
    assert all(partition_of(key, 0, 4) == partition for key, partition in chosen)


def test_records_without_a_key_go_round():
    assert [partition_of(None, row, 3) for row in range(5)] == [0, 1, 2, 0, 1]
