"""Files as records: the bytes, the types, the partitions, the offsets."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import json
import math
from collections import defaultdict
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stream_ad.batch import Message
from stream_ad.config import parse
from stream_ad.errors import InputError
from stream_ad.io.files import POLL_ROWS, FileSource, JsonLines, Layout, moment_ms, rows, stamp_ms
from stream_ad.io.partition import murmur2, partition_of
from stream_ad.io.tables import documents

LAYOUT = Layout("key", "timestamp")


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def values_of(path: Path) -> list[dict]:
    return [orjson.loads(row.value) for row in rows(path, LAYOUT)]


# ── partitions ───────────────────────────────────────────────────────────────────────────────


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


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────


def test_a_csv_becomes_typed_json(tmp_path):
    path = written(
        tmp_path / "f.csv", "timestamp,key,amount,zip,shop\n2026-01-01T00:00:00Z,7,1.5,01234,NA\n2026-01-02,8,,99999,\n"
    )
    first, second = rows(path, LAYOUT)
    assert first.value == (b'{"timestamp":"2026-01-01T00:00:00Z","key":7,"amount":1.5,"zip":"01234","shop":"NA"}')
    assert second.value == b'{"timestamp":"2026-01-02","key":8,"amount":null,"zip":"99999","shop":null}'
    assert (first.key, first.time_ms, second.time_ms) == (b"7", 1_767_225_600_000, 1_767_312_000_000)


def test_a_column_has_one_type_from_the_first_cell_to_the_last(tmp_path):
    # the reader takes blocks of about a megabyte: what tells comes long after the first
    long = 100_000
    lines = ["1,1,1,x,name,0.5"] + [f"{i},{i},1,x{i},{i},{i}" for i in range(long)] + ["0.5,name,NaN,7,1,1"]
    path = tmp_path / "f.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("a,b,c,d,e,f\n" + "\n".join(lines))
    found = [value for value, _ in documents(path)]
    assert found[0] == b'{"a":1.0,"b":"1","c":1,"d":"x","e":"name","f":0.5}'
    assert found[1] == b'{"a":0.0,"b":"0","c":1,"d":"x0","e":"0","f":0.0}'
    assert found[-1] == b'{"a":0.5,"b":"name","c":null,"d":"7","e":"1","f":1.0}'
    assert len(found) == long + 2


def test_a_dotted_column_is_a_nested_field(tmp_path):
    path = written(tmp_path / "f.csv", "key,device.temp,device.unit,a,a.b\nk,5,C,1,2\n")
    assert values_of(path) == [{"key": "k", "device": {"temp": 5, "unit": "C"}, "a": {"b": 2}}]


odd_cells = [
    " ",
    "\t5",
    "\u20035",
    " NaN",
    "null",
    "1e3",
    "0x1F",
    "007",
    " 5",
    "+5",
    "inf",
    "NA",
    "true",
    "-0",
    "1_000",
]
cells = (
    st.none() | st.integers(-(10**25), 10**25) | st.floats() | st.sampled_from(odd_cells)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
)  # fmt: skip


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8))
@example([(5, 0)] * 2 + [(" ", "\u2003"), (" NaN", "\t")])
@example([(5, 1.5), ("\t5", " 5 "), ("null", "nan")])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_csv_column_is_all_numbers_or_all_text(tmp_path, table):
    path = tmp_path / "f.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([("a", "b"), *(["" if cell is None else cell for cell in line] for line in table)])
    found = [orjson.loads(value) for value, _ in documents(path)]
    assert len(found) == len(table)
    for column, name in enumerate(("a", "b")):
        kinds = {type(line[name]) for line in found} - {type(None)}
        assert kinds <= {str} or kinds <= {int} or kinds <= {float}
        for line, cell in zip(found, (line[column] for line in table), strict=True):
            if kinds == {str} and isinstance(cell, str):
                assert line[name] == (cell or None)
            elif kinds <= {int, float} and line[name] is not None:
                assert float(cell) == line[name]
            elif kinds <= {int, float} and kinds:
                assert cell in (None, "", "NA", "N/A", "null", "NULL", "None") or not math.isfinite(float(cell))


# ── Parquet and JSON Lines ───────────────────────────────────────────────────────────────────


def test_parquet_keeps_its_types(tmp_path):
    moment = datetime.datetime(2026, 1, 1, 12, 0, 0, 250_000)
    table = pa.table(
        {
            "key": ["a", None],
            "n": pa.array([1, None], pa.int32()),
            "x": [math.nan, 0.1],
            "at": pa.array([moment, None], pa.timestamp("ns")),
            "zoned": pa.array([moment, None], pa.timestamp("ms", "Europe/Prague")),
            "price": [decimal.Decimal("9.50"), None],
            "raw": [b"a\xff", None],
            "inner": [{"deep": 5}, None],
        }
    )
    path = tmp_path / "f.parquet"
    pq.write_table(table, path)
    first, second = values_of(path)
    assert first == {
        "key": "a", "n": 1, "x": None, "at": "2026-01-01T12:00:00.250000", "zoned": "2026-01-01T12:00:00.250000Z",
        "price": 9.5, "raw": "a\\xff", "inner": {"deep": 5},
    }  # fmt: skip
    assert second["x"] == 0.1
    assert [row.key for row in rows(path, LAYOUT)] == [b"a", None]
    assert next(rows(path, Layout("inner.deep", "at"))).time_ms == 1_767_268_800_250


def test_lines_of_json_pass_byte_for_byte(tmp_path):
    lines = [b'{"key": "a",  "timestamp":"2026-01-01"}', b'{"key": ', b"\xff", b'["key"]', b'{"key": 1.5}\r']
    path = tmp_path / "f.jsonl"
    path.write_bytes(b"\n".join([lines[0], b"", *lines[1:]]))
    found = list(rows(path, LAYOUT))
    assert [row.value for row in found] == lines
    assert [row.key for row in found] == [b"a", None, None, None, None]
    assert [row.time_ms for row in found] == [1_767_225_600_000, -1, -1, -1, -1]


@pytest.mark.parametrize(
    ("leaf", "form", "ms"),
    [
        ("2026-01-01 00:00:00.5", "iso", 1_767_225_600_500),
        ("2026-01-01T01:00:00+01:00", "iso", 1_767_225_600_000),
        ("yesterday", "iso", -1),
        (5, "iso", -1),
        (0, "s", 0),
        (1_767_225_600.25, "s", 1_767_225_600_250),
        (1_767_225_600_000_999, "us", 1_767_225_600_000),
        (1_767_225_600_000_000_001, "ns", 1_767_225_600_000),
        ("1767225600", "s", 1_767_225_600_000),
        (-1, "ms", -1),
        (True, "s", -1),
        (None, "s", -1),
        (math.nan, "s", -1),
        (10**400, "s", -1),
    ],
)
def test_event_times(leaf, form, ms):
    assert moment_ms(leaf, form) == ms


# ── the source ───────────────────────────────────────────────────────────────────────────────


class Listening:
    def __init__(self, source, start):
        self.source, self.start = source, start

    def assigned(self, partitions):
        assert self.source.committed(partitions) == dict.fromkeys(partitions)
        assert self.source.poll(0) == [], "nothing is read before it is said from where"
        self.source.start(dict.fromkeys(partitions, self.start))


def polled(source: FileSource, start: int = 0):
    source.open(Listening(source, start))
    while not source.finished():
        yield from source.poll(0)


@given(
    st.lists(st.none() | st.sampled_from(["a", "b", "c"]) | st.integers(), max_size=40),
    st.integers(1, 5),
    st.integers(0, 4),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_is_read_as_a_fresh_topic_would_be(tmp_path, keys, partitions, start):
    path = written(tmp_path / "f.jsonl", "".join(json.dumps({"key": key, "n": n}) + "\n" for n, key in enumerate(keys)))
    topic: dict[int, list] = defaultdict(list)
    for number, row in enumerate(rows(path, LAYOUT)):
        topic[partition_of(row.key, number, partitions)].append((row.key, row.value))
    found: dict[int, list] = defaultdict(list)
    for raw in polled(FileSource(path, parse({}), partitions), start):
        assert raw.next_offset == raw.offset[-1] + 1
        for offset, key, value in zip(raw.offset.tolist(), raw.key, raw.value, strict=True):
            assert offset == start + len(found[raw.partition])
            found[raw.partition].append((key, value))
    assert found == {partition: cut for partition, part in topic.items() if (cut := part[start:])}


def test_a_long_file_comes_in_pieces(tmp_path):
    count = 2 * POLL_ROWS
    path = written(tmp_path / "f.jsonl", "{}\n" * count)
    batches = list(polled(FileSource(path, parse({"source": {"topic": "t"}}), 2)))
    assert [len(raw) for raw in batches] == [POLL_ROWS // 2] * 4
    assert [(raw.topic, raw.partition, int(raw.offset[0])) for raw in batches] == [
        ("t", 0, 0), ("t", 1, 0), ("t", 0, POLL_ROWS // 2), ("t", 1, POLL_ROWS // 2),
    ]  # fmt: skip


def test_the_record_carries_the_event_time_only_where_it_is_read_there(tmp_path):
    path = written(tmp_path / "f.csv", "timestamp,key\n0,a\n5,a\n,a\n")
    own = parse({"record": {"timestamp": "$timestamp", "timestamp_format": "s"}})
    (raw,) = polled(FileSource(path, own))
    assert raw.timestamp_ms.tolist() == [1, 5000, -1]
    field = parse({"record": {"timestamp": "timestamp", "timestamp_format": "s"}})
    (raw,) = polled(FileSource(path, field))
    assert raw.timestamp_ms.tolist() == [-1, -1, -1]
    layout = Layout.of(field.record, key="k", timestamp="t")
    assert (layout.key, layout.timestamp) == ("k", "t")
    assert [stamp_ms(row, layout) for row in rows(path, layout)] == [-1, -1, -1]


# ── what cannot be read ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.txt", b"x", "the name does not tell the format"),
        ("f.csv", b"", "not a CSV file"),
        ("f.csv", b"a,a\n1,2\n", "names a twice"),
        ("f.csv", b"a,b\n1,2\n1\n", "Expected 2 columns, got 1"),
        ("f.csv.gz", b"a,b\n1,2\n", "cannot be read"),
        ("f.jsonl.gz", b"{}\n", "cannot be read"),
        ("f.parquet", b"PAR1 no", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        list(rows(path, LAYOUT))
    assert str(path) in str(caught.value)


def test_a_missing_file_is_said(tmp_path):
    for name in ("f.csv", "f.jsonl", "f.parquet"):
        with pytest.raises(InputError, match="no such file"):
            list(rows(tmp_path / name, LAYOUT))
    with pytest.raises(InputError, match="cannot be written"):
        JsonLines(tmp_path / "absent" / "f.jsonl")


# ── what is written ──────────────────────────────────────────────────────────────────────────


def test_a_message_is_a_line_in_the_file_of_its_kind(tmp_path):
    alerts, rejects = tmp_path / "alerts.jsonl", tmp_path / "rejects.jsonl"
    reject = Message(
        None,
        b"\xff{",
        [("own", b"1"), ("reject_code", b"bad_json"), ("reject_partition", b"2"), ("reject_offset", b"6")],
    )
    with JsonLines(alerts, rejects) as lines:
        lines.write([Message(b"k", b'{"id":2}', []), Message(b"k", b'{"id":3}', [])], [reject])
        lines.write([Message(b"k", b'{"id":4}', [])], [])
    assert alerts.read_text() == '{"id":2}\n{"id":3}\n{"id":4}\n'
    assert json.loads(rejects.read_text()) == {
        "code": "bad_json", "partition": 2, "offset": 6, "key": None, "value": "hex:ff7b",
    }  # fmt: skip
