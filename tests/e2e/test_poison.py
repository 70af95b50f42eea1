"""Poison in a real topic, from producers that know no rules: rejects for all of it, and a run that ends well."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import Message, Producer

from stream_ad.batch import Headers
from tests.support.pipelines import Program, committed
from tests.support.poison import KINDS, Row, good
from tests.support.reading import read_committed

CONFIG = """pipeline = "{name}"
[kafka]
brokers = "{brokers}"
[source]
topic = "{name}"
[redis]
url = "{redis}"
[record]
key = "k"
timestamp = "t"
[window]
rows = 4
[features.numeric]
a = ["raw", "zscore"]
"d.x" = ["raw"]
[features.categorical]
c = ["novelty"]
[train]
auto = false
[server]
port = 0
[sink]
payload_fields = ["z"]
"""
# what a broker takes with its defaults; a reject has headers as well
LARGE = [
    Row(b"\x80" + os.urandom(900_000)),
    Row(b"{" * 999_000),
    Row(b"{", key=os.urandom(900_000)),
    Row(b"\x1f\x8b" + os.urandom(500_000), key=b"k" * 400_000),
]


@pytest.fixture
def program(kafka: str, redis_url: str, name: str, tmp_path: Path) -> Program:
    file = tmp_path / "stream_ad.toml"
    file.write_text(CONFIG.format(name=name, brokers=kafka, redis=redis_url))
    return Program(file, name, kafka)


def produced(brokers: str, topic: str, rows: Sequence[tuple[Row, Headers | None]], **options: Any) -> None:
    settings = {k.replace("_", "."): v for k, v in options.items()}
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 50, "enable.idempotence": True, **settings})
    for row, headers in rows:
        producer.produce(topic, row.value, row.key, 0, headers=headers)
        producer.poll(0)
    assert producer.flush(30) == 0


def produced_with_a_name_that_is_no_text(brokers: str, topic: str, value: bytes) -> None:
    """The client's own functions refuse such a header; the library below, and other clients, do not."""
    folder = Path(confluent_kafka.__file__).parents[1]
    found = [*folder.glob("confluent_kafka*/**/librdkafka*.so*"), *folder.glob("confluent_kafka/**/librdkafka*.dylib")]
    if not found:
        pytest.skip("librdkafka is not a file of the wheel here")
    library = ctypes.CDLL(str(found[0]))
    for made in (library.rd_kafka_conf_new, library.rd_kafka_new, library.rd_kafka_headers_new):
        made.restype = ctypes.c_void_p
    pointer, size, error = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.create_string_buffer(512)
    settings = pointer(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(settings, b"bootstrap.servers", brokers.encode(), error, size(512))
    producer = pointer(library.rd_kafka_new(0, settings, error, size(512)))
    headers = pointer(library.rd_kafka_headers_new(size(1)))
    library.rd_kafka_header_add(headers, b"\xff\xfe", size(2), b"v", size(1))
    # of rd_kafka_vtype_t: 1 topic, 3 partition, 4 value, 7 flags (2 = copy), 10 headers, 0 the end
    given = (1, topic.encode(), 3, 0, 4, value, size(len(value)), 7, 2, 10, headers, 0)
    assert library.rd_kafka_producev(producer, *given) == 0
    assert library.rd_kafka_flush(producer, 30_000) == 0
    library.rd_kafka_destroy(producer)


def told(message: Message) -> dict[str, bytes]:
    return dict(message.headers() or [])  # type: ignore[arg-type]


def test_poison_in_a_topic_becomes_rejects_and_the_run_ends_well(
    program: Program, kafka: str, name: str, create_topic: Any
) -> None:
    create_topic(name)
    random = Random(11)
    kinds = {kind: one for kind, one in KINDS.items() if one.by_field is not None}
    small = [(one.make(random), one.by_field) for one in kinds.values()]
    small = [(row, code) for row, code in small if len(row.value or b"") < 500_000]
    sent: list[tuple[Row, str | None]] = [(good(number), None) for number in range(300)]
    for row, code in small:
        sent.insert(random.randrange(len(sent)), (row, code))
    half = len(sent) // 2
    headers: Headers = [("trace", b"\x00\xff"), ("empty", None)]
    produced(kafka, name, [(row, headers) for row, _ in sent[:half]], compression_type="gzip")
    produced(kafka, name, [(row, None) for row, _ in sent[half:]], compression_type="lz4")
    produced(kafka, name, [(row, None) for row in LARGE])
    produced_with_a_name_that_is_no_text(kafka, name, b"{")
    sent += [(row, "bad_json") for row in (*LARGE, Row(b"{", key=None))]
    sent += [(good(number), None) for number in range(300, 320)]
    produced(kafka, name, [(row, None) for row, _ in sent[-20:]])

    program("run", "--until-end")

    expected = [(offset, row, code) for offset, (row, code) in enumerate(sent) if code is not None]
    rejects = read_committed(kafka, f"{name}.rejects")
    assert [int(told(message)["reject_offset"]) for message in rejects] == [offset for offset, _, _ in expected]
    for message, (offset, row, code) in zip(rejects, expected, strict=True):
        why = told(message)
        assert why["reject_code"].decode() == code
        assert why["reject_reason"].decode().startswith(f"{code}: ")
        assert (why["reject_topic"], why["reject_partition"]) == (name.encode(), b"0")
        if "reject_cut" in why:
            assert row in LARGE
            cut = why["reject_cut"].split()
            assert (b"key" in cut, b"value" in cut) == (message.key() != row.key, message.value() != row.value)
            assert (row.value or b"").startswith(message.value() or b"")
            assert (row.key or b"").startswith(message.key() or b"")
        else:
            assert (message.key(), message.value()) == (row.key, row.value)
        if offset < half:
            assert (message.headers() or [])[:2] == headers
    assert sum("reject_cut" in told(message) for message in rejects) >= 2
    assert (rejects[-1].headers() or [])[0] == ("headers_left_out", b"the name of one is not UTF-8")

    program("run", "--until-end")
    assert len(read_committed(kafka, f"{name}.rejects")) == len(expected), "nothing is rejected twice"
    assert committed(kafka, name, name) == len(sent)


def test_a_rejects_topic_that_takes_too_little_ends_the_run_and_names_the_key(
    program: Program, kafka: str, name: str, create_topic: Any
) -> None:
    create_topic(name)
    create_topic(f"{name}.rejects", max_message_bytes="100000")
    produced(kafka, name, [(good(1), None), (LARGE[0], None)])
    said = program("run", "--until-end", code=2)
    assert "sink.max_record_bytes" in said
    assert "Traceback" not in said
    with program.config.open("a") as config:
        config.write("max_record_bytes = 90_000\n")
    program("run", "--until-end")
    (reject,) = read_committed(kafka, f"{name}.rejects")
    assert told(reject)["reject_cut"] == b"value"


def test_a_topic_that_is_read_and_written_is_refused(program: Program) -> None:
    text = program.config.read_text()
    for output in ("alerts", "rejects", "models", "bundles"):
        loop = text.replace(f'topic = "{program.pipeline}"', f'topic = "{program.pipeline}.{output}"')
        program.config.write_text(loop)
        assert "source.topic" in program("run", "--until-end", code=2)
