"""Files as records: the bytes, the partitions, the offsets."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream_ad.batch import Message
from stream_ad.config import parse
from stream_ad.errors import InputError
from stream_ad.io.files import POLL_BYTES, POLL_ROWS, FileSource, JsonLines, Layout, moment_ms, rows, stamp_ms
from stream_ad.io.partition import partition_of

LAYOUT = Layout("key", "timestamp")


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


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
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
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


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("f.txt", b"x", "the name does not tell the format"),
        ("f.csv", b"", "not a CSV file"),
        ("f.csv", b"a,a\n1,2\n", "names a twice"),
        ("f.csv", b"t\xe9mp,b\n1,2\n", "the header is not UTF-8"),
        ("f.json", b'[\n  {"a": 1},\n  {"a": 2}\n]\n', "line 1, column 2: .*one JSON object per line is needed"),
        ("f.json", b'[{"a": 1}, {"a": 2}]', "line 1, column 1: an array and no object; one JSON object per line"),
        ("f.json", b'\n{\n "a": 1\n}\n', "line 2, column 2: .*one JSON object per line is needed"),
        ("f.jsonl", b'{"a": 1}{"a": 2}\n', "line 1, column 9: .* follows the first value; one JSON object per line"),
        ("f.jsonl", b'{"a": 1},\n{"a": 2},\n{"a": 3},\n{"a": 4}\n', "line 1, column 9: ',' follows"),
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


def test_a_file_of_long_lines_comes_in_smaller_pieces(tmp_path):
    line = '{"key": "' + "x" * (POLL_BYTES // 4) + '"}\n'
    path = written(tmp_path / "f.jsonl", line * 10)
    assert [len(raw) for raw in polled(FileSource(path, parse({})))] == [4, 4, 2]
