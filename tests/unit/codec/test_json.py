from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import EventBatch, RejectBatch, Strings
from stream_ad.codec import hashing, timestamps
from stream_ad.codec.json import CHUNK_ROWS, JsonCodec
from stream_ad.config import Record
from stream_ad.errors import ConfigError
from tests.support.batches import raw_batch

ALL_TIMES = {"earliest": "1970-01-01", "latest": "2262-01-01"}


def decode(
    *documents: Any, numeric: tuple[str, ...] = (), categorical: tuple[str, ...] = (), **record: Any
) -> tuple[EventBatch, RejectBatch]:
    values = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in documents]
    return JsonCodec(Record(**record), numeric, categorical).decode(raw_batch(values))


def reason(document: Any, **settings: Any) -> str:
    events, rejects = decode(document, **settings)
    assert len(events) == 0
    return rejects.reason[0]


def number(leaf: Any, **record: Any) -> float:
    events, rejects = decode({"a": leaf}, numeric=("a",), **record)
    assert not rejects.reason
    return float(events.values[0, 0])


def ms(leaf: Any, form: str = "iso", **record: Any) -> int | None:
    events, _ = decode({"t": leaf}, timestamp="t", timestamp_format=form, **ALL_TIMES, **record)
    return int(events.ts_ms[0]) if len(events) else None


def test_a_record_becomes_a_row_of_every_column() -> None:
    value = b'{"at":"2024-03-01T12:00:00.5Z","who":"k\xc3\xa4the","amount":12.5,"device":{"temp":3,"kind":"x"},"n":7}'
    codec = JsonCodec(Record(key="who", timestamp="at"), ["amount", "device.temp"], ["device.kind", "n"])
    raw = raw_batch([b"[]", value])
    events, rejects = codec.decode(raw)
    assert events.raw is raw
    assert rejects.raw is raw
    assert events.row.tolist() == [1]
    assert events.offset.tolist() == [102]
    assert events.ts_ms.tolist() == [1_709_294_400_500]
    assert events.key.tolist() == ["käthe".encode()]
    assert events.values.tolist() == [[12.5, 3.0]]
    assert [column.tolist() for column in events.cats] == [[b"x"], [b"7"]]
    assert events.codes.tolist() == [[fnv(b"x"), fnv(b"7")]]
    assert rejects.row == [0]
    assert rejects.reason == ["not_an_object: the value is an array"]
    assert [column.dtype for column in (events.row, events.offset, events.ts_ms, events.values, events.codes)] == [
        np.int64,
        np.int64,
        np.int64,
        np.float64,
        np.uint64,
    ]


@pytest.mark.parametrize("values", [[], [b"", None, b"{"]])
def test_batches_without_events_keep_their_shapes(values: list[bytes | None]) -> None:
    codec = JsonCodec(Record(key="k", timestamp="t"), ["a", "b"], ["c"])
    events, rejects = codec.decode(raw_batch(values))
    assert len(events) == len(events.key) == len(events.cats[0]) == 0
    assert events.values.shape == (0, 2)
    assert events.codes.shape == (0, 1)
    assert events.slice(0, 0).values.shape == (0, 2)
    assert rejects.row == list(range(len(values)))


def test_an_event_needs_no_field_at_all() -> None:
    events, rejects = decode({}, {"x": 1}, b"{", None)
    assert events.values.shape == (2, 0)
    assert events.codes.shape == (2, 0)
    assert rejects.row == [2, 3]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (None, "tombstone: "),
        (b"", "bad_json: the value is empty"),
        (b"{", "bad_json: "),
        (b'{"a":\xff}', "bad_json: "),
        (b'{"x":"\xff"}', "bad_json: "),
        (b'{"x":"\\ud800"}', "bad_json: "),
        (b'{"a":NaN}', "bad_json: "),
        (b'{"a":-Infinity}', "bad_json: "),
        (b'{"a":1e999}', "bad_json: "),
        (b'{"x":1e999}', "bad_json: "),
        (b'{"x":' + b"9" * 400 + b"}", "bad_json: "),
        (b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", "bad_json: "),
        (b"[" * 100_000, "bad_json: "),
        (b'{"a":1}{"a":2}', "bad_json: "),
        (b"\xef\xbb\xbf{}", "bad_json: "),
        (b"1", "not_an_object: the value is a number"),
        (b"null", "not_an_object: the value is missing"),
        ({"a": "1"}, "bad_number: a: is text, not a number"),
        ({"a": True}, "bad_number: a: is true or false, not a number"),
        ({"a": {}}, "bad_number: a: is an object, not a number"),
        ({"d": 5}, "bad_number: d.x: lies in something that is no object, not a number"),
        ({"c": 1.5}, "bad_category: c: is a number, not text or a 64-bit integer"),
        ({"c": 2**64}, "bad_category: c: is a number, not text or a 64-bit integer"),
        ({"c": []}, "bad_category: c: is an array, not text or a 64-bit integer"),
        ({"c": "ä" * 129}, "bad_category: c: has 258 bytes, at most 256 are allowed"),
        ({"a": "x", "c": 1.5}, "bad_number: a: is text, not a number"),
    ],
)
def test_what_does_not_fit_is_rejected_with_a_reason(document: Any, expected: str) -> None:
    assert reason(document, numeric=("a", "d.x"), categorical=("c",)).startswith(expected)


def test_numbers() -> None:
    assert number(3) == 3.0
    assert number(-2.5e-3) == -2.5e-3
    assert number(2**63 + 1025) == float(2**63 + 1025)
    assert number(10**25) == 1e25
    assert math.copysign(1.0, number(-0.0)) == 1.0
    assert math.isnan(number(None))
    events, _ = decode({"d": None}, {}, {"d": {}}, numeric=("d.x",))
    assert np.isnan(events.values).all()


def test_numbers_as_text_only_where_allowed() -> None:
    for text, value in {"12.5": 12.5, "-1e3": -1000.0, "+.5": 0.5, "7.": 7.0}.items():
        assert number(text, numbers_as_text=True) == value
    assert math.isnan(number("", numbers_as_text=True))
    for text in ("nan", "inf", "1_000", " 1", "1e999", "0x10", "٣", "1,5", "-"):
        assert reason({"a": text}, numeric=("a",), numbers_as_text=True).startswith("bad_number: a: is text")


def test_categories_have_one_canonical_text() -> None:
    leaves = ["x", 7, -7, True, False, None, "", "7"]
    events, rejects = decode(*({"c": leaf} for leaf in leaves), {}, categorical=("c",))
    assert not rejects.row
    assert events.cats[0].tolist() == [b"x", b"7", b"-7", b"true", b"false", b"", b"", b"7", b""]
    assert (events.codes[:, 0] == 0).tolist() == [text == b"" for text in events.cats[0].tolist()]


def test_keys() -> None:
    events, rejects = decode(
        *({"k": leaf} for leaf in ("a", 5, -(2**63), "ä" * 4, "", None, True, 1.5, "x" * 9, 2**64)),
        {},
        key="k",
        max_key_bytes=8,
    )
    assert events.key.tolist() == [b"a", b"5", "ä".encode() * 4]
    assert {code.split(":")[0] for code in rejects.reason} == {"bad_key"}
    assert rejects.row == [2, 4, 5, 6, 7, 8, 9, 10]
    assert rejects.reason[0] == "bad_key: k: has 20 bytes, at most 8 are allowed"
    assert rejects.reason[1] == "bad_key: k: is missing or empty"


def test_the_records_own_key_and_time() -> None:
    keys = [b"\xff\x00", None, b"", b"x" * 65, b"ok", b"ok", b"ok"]
    raw = raw_batch([b"{}"] * 7, keys, [0, 1, 2, 3, -1, timestamps.END_MS, timestamps.END_MS - 1])
    events, rejects = JsonCodec(Record(**ALL_TIMES), [], []).decode(raw)
    assert events.key.tolist() == [b"\xff\x00", b"ok"]
    assert events.ts_ms.tolist() == [0, timestamps.END_MS - 1]
    assert [text.split(":")[0] for text in rejects.reason] == ["bad_key"] * 3 + ["bad_timestamp"] * 2


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b'{"d":{"x":1},"d":{"x":2}}', "d"),
        (b'{"d":{"x":1, "x" : 1}}', "x"),
        (b'{"z":[1,{"y":{"x":1},"x":{},"y":0}]}', "y"),
        (b'{"\\u0078":1,"x":1}', "x"),
        (b'{"":1,"":1}', ""),
        ('{"ü":1,"u":1,"ü":1}'.encode(), "ü"),
    ],
)
def test_a_name_that_an_object_has_twice(value: bytes, name: str) -> None:
    assert reason(value) == f"bad_json: {name!r} is there twice"


@pytest.mark.parametrize(
    "value",
    [
        b'{"x":{"x":{"x":1}},"y":[{"x":1},{"x":1}]}',
        b'{"x":"x\\":","y":"\\"x\\":"}',
        b'{"x":1,"\\u0079":1}',
        b"{" + b",".join(b'"f%d":0' % number for number in range(1000)) + b"}",
        b'{"a":' * 1000 + b"1" + b"}" * 1000,
    ],
)
def test_names_that_are_not_twice_in_one_object(value: bytes) -> None:
    assert len(decode(value)[0]) == 1


_NAME = st.sampled_from(["a", "b", "\\", '"', "é", "a:", "{", ""])
_LEAF = st.one_of(st.integers(-3, 3), st.sampled_from(['"', "a", "\\", '{"a":1', "}", ":"]), st.none())


def _written(node: Any, escaped: bool) -> str:
    """JSON of lists of pairs for objects, so that names can come twice."""
    if isinstance(node, tuple):
        return "[" + ",".join(_written(each, escaped) for each in node) + "]"
    if isinstance(node, list):
        return "{" + ", ".join(f"{json.dumps(k, ensure_ascii=escaped)} :{_written(v, escaped)}" for k, v in node) + "}"
    return json.dumps(node, ensure_ascii=escaped)


@given(
    st.lists(
        st.lists(
            st.tuples(
                _NAME,
                st.recursive(
                    _LEAF,
                    lambda inner: st.one_of(
                        st.lists(st.tuples(_NAME, inner), max_size=4), st.lists(inner, max_size=3).map(tuple)
                    ),
                ),
            ),
            max_size=5,
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_exactly_the_documents_with_a_repeated_name_are_rejected(documents: list[Any], escaped: bool) -> None:
    def repeats(pairs: list[tuple[str, Any]]) -> Any:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise KeyError
        return found

    values = [_written(document, escaped).encode() for document in documents]
    _, rejects = decode(*values)
    expected = []
    for row, value in enumerate(values):
        try:
            json.loads(value, object_pairs_hook=repeats)
        except KeyError:
            expected.append(row)
    assert [row for row in rejects.row if "twice" in rejects.reason[rejects.row.index(row)]] == expected


def test_names_that_look_odd() -> None:
    for name in ('quo"te', "back\\slash", "tab\t", "ümläut", " ", "$key", "f0", "__class__"):
        assert decode({name: 4, "f1": 5}, numeric=(name,))[0].values[0, 0] == 4.0


@pytest.mark.parametrize(
    ("record", "numeric", "categorical", "expected"),
    [
        ({"key": ""}, [], [], "record.key: '' is not a path"),
        ({}, [""], [], "features.numeric: '' is not a path"),
    ],
)
def test_impossible_paths_are_refused(record: Any, numeric: list[str], categorical: list[str], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        JsonCodec(Record(**record), numeric, categorical)


def test_a_name_with_dots_is_read_where_objects_do_not_lead_to_the_field() -> None:
    documents = [
        {"id": {"host": "a"}, "d.x.y": 1},
        {"id.host": "b", "d": {"x.y": 2}},
        {"id": None, "id.host": "c", "d.x": {"y": 3}},
        {"id": {"host": "d"}, "id.host": "e", "d": {"x": {"y": 4}}, "d.x.y": 5},
        {"id": 7, "id.host": "f", "d": {"x": None}, "d.x.y": 6},
    ]
    events, rejects = decode(*documents, key="id.host", numeric=("d.x.y",))
    assert rejects.reason == []
    assert events.key.tolist() == [b"a", b"b", b"c", b"d", b"f"]
    assert events.values[:, 0].tolist() == [1, 2, 3, 4, 6]
    assert decode({"key": "k", "No.": 5}, numeric=("No.",))[0].values[0, 0] == 5


def test_a_field_may_be_named_within_the_name_of_another() -> None:
    fields = {"key": "host", "numeric": ("host.load",)}
    events, rejects = decode({"host": "a", "host.load": 1}, {"host": {"load": 2}}, **fields)
    assert (events.key.tolist(), events.values.tolist()) == ([b"a"], [[1.0]])
    assert rejects.reason == ["bad_key: host: is an object, not text or a 64-bit integer"]


def test_an_integer_that_went_through_a_float_is_its_digits() -> None:
    events, rejects = decode({"c": 5.0}, {"c": -0.0}, {"c": 2.0**53}, {"c": 2.0**54}, {"c": 5.5}, categorical=("c",))
    assert events.cats[0].tolist() == [b"5", b"0", b"9007199254740992"]
    assert [reason.partition(":")[0] for reason in rejects.reason] == ["bad_category"] * 2
    assert decode({"id": 12.0}, key="id")[0].key.tolist() == [b"12"]


def test_one_field_may_have_several_uses() -> None:
    fields = {"key": "x", "timestamp": "x", "numeric": ("x",), "categorical": ("x",)}
    events, _ = decode({"x": 5}, timestamp_format="s", earliest="1970-01-01", **fields)
    assert (events.key[0], events.ts_ms[0], events.values[0, 0], events.cats[0][0]) == (b"5", 5000, 5.0, b"5")


def test_clean_chunks_go_the_fast_way_and_others_the_plain_one() -> None:
    codec = JsonCodec(Record(key="k", timestamp="t"), ["a", "d.x"], ["c"])
    clean = json.dumps({"k": "1", "t": "2024-01-01", "a": 1e-05, "d": {"x": 1}, "id": "3e1000f", "u": "ü"}).encode()
    assert codec.fast([clean] * 50) is not None
    for bad in (None, b"", b"{", b'{"x":\n1}', b'{"x":1e400}', b'{"x":"\xff"}', clean + clean, clean + b"\n"):
        assert codec.fast([clean, bad, clean]) is None


def test_halves_of_a_document_are_two_rejects_whatever_follows() -> None:
    values = [b'{"a":1,', b'"a":2}', b'{"a":3}', b"{}{}", b"\n", b'{"a":4}\n']
    events, rejects = decode(*values, numeric=("a",))
    assert events.row.tolist() == [2, 5]
    assert events.values[:, 0].tolist() == [3.0, 4.0]
    assert rejects.row == [0, 1, 3, 4]


@pytest.mark.parametrize(
    "values",
    [
        (b"{}{}", b""),
        (b"", b"{}{}"),
        (b" ", b"{} {}"),
        (b"{}\n{}", b""),
        (b"{}{", b"}"),
        (b'{}{"z":', b"{}}"),
        (b'{}{"z":', b"{}", b"}"),
        (b"{}\n{}\n{}", b"{}", b"{}"),
        (b'{}{"a":{}', b',"b":{}}'),
        (b'{"b":[{}', b',{}]}{"a":1}'),
        (b'{}{}{"b":{}', b"}", b"{}"),
    ],
)
def test_documents_that_fill_in_for_each_other_are_rejected(values: tuple[bytes, ...]) -> None:
    events, rejects = decode(*values)
    assert rejects.row == [row for row, value in enumerate(values) if value != b"{}"]
    assert len(events) + len(rejects) == len(values)


def test_chunks_do_not_show() -> None:
    n = 2 * CHUNK_ROWS + 17
    values: list[bytes | None] = [b'{"a":%d,"c":"c%d"}' % (row, row % 5) for row in range(n)]
    values[3], values[CHUNK_ROWS], values[n - 1] = b"{", None, b'{"a":"x"}'
    events, rejects = JsonCodec(Record(), ["a"], ["c"]).decode(raw_batch(values))
    assert rejects.row == [3, CHUNK_ROWS, n - 1]
    expected = [row for row in range(n) if row not in rejects.row]
    assert events.row.tolist() == expected
    assert events.values[:, 0].tolist() == expected
    assert events.cats[0].tolist() == [b"c%d" % (row % 5) for row in expected]


@settings(max_examples=300)
@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2261, 12, 30)),
    st.sampled_from(["", "Z", "+02", "-0330", "+05:45", "-23:59", "+00:00"]),
    st.sampled_from(["T", " "]),
    st.sampled_from(["date", "minutes", "seconds", "milliseconds", "microseconds"]),
)
def test_iso_times_are_read_as_the_standard_library_reads_them(
    when: datetime, zone: str, separator: str, precision: str
) -> None:
    text = when.date().isoformat() if precision == "date" else when.isoformat(separator, precision) + zone
    expected = datetime.fromisoformat(text)
    expected = expected if expected.tzinfo else expected.replace(tzinfo=UTC)
    assert ms(text) == (expected - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@settings(max_examples=300)
@given(st.text("0123456789-:+.,TZ Wz", max_size=32) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}"))
def test_iso_accepts_nothing_that_the_standard_library_refuses(text: str) -> None:
    if ms(text) is not None:
        datetime.fromisoformat(text.upper())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "20240101T000000",
        "2024-1-01",
        "2024-13-01",
        "2024-00-10",
        "2023-02-29",
        "2100-02-29",
        "2024-04-31",
        "2024-01-01T",
        "2024-01-01T1",
        "2024-01-01T24:00",
        "2024-01-01T00:60",
        "2024-01-01T23:59:60",
        "2024-01-01T00:00:00.",
        "2024-01-01T00:00:0",
        "2024-01-01T00:00:",
        "2024-01-01T00:00:00+1",
        "2024-01-01T00:00:00+24",
        "2024-01-01T00:00:00+00:60",
        "2024-01-01T00:00:00ZZ",
        "2024-01-01X00:00",
        "2024-01-01T00:00:00+0:000",
        "2024-01-01 ",
        " 2024-01-01",
        "2024-01-01Z",
        "-024-01-01",
        "2024-01-01T00:00:00Z\x00",
        "２024-01-01",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:00:00+01:00",
        "2262-01-01",
        "0000-01-01",
        "9999-12-31",
    ],
)
def test_texts_that_are_no_time(text: str) -> None:
    assert ms(text) is None


def test_iso_bounds_and_fractions() -> None:
    assert ms("1970-01-01") == 0
    assert ms("1969-12-31T23:30:00-01:00") == 1_800_000
    assert ms("2261-12-31T23:59:59.999999999Z") == timestamps.END_MS - 1
    assert ms("2000-02-29t00:00:00,1239z") == 951_782_400_123
    assert int(datetime(2262, 1, 1, tzinfo=timezone.utc).timestamp()) * 1000 == timestamps.END_MS  # noqa: UP017
    assert timestamps.END_MS * 1_000_000 < 2**63
    assert ms(5) is None
    assert ms(None) is None


_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@settings(max_examples=200)
@given(st.data(), st.sampled_from(sorted(_PER_SECOND)))
def test_integers_since_the_epoch_are_exact(data: st.DataObject, unit: str) -> None:
    end = timestamps.END_MS * _PER_SECOND[unit] // 1000
    leaves = data.draw(st.lists(st.integers(0, end - 1) | st.integers(-5, 2**70) | st.booleans(), max_size=5))
    events, rejects = decode(*({"t": leaf} for leaf in leaves), timestamp="t", timestamp_format=unit, **ALL_TIMES)
    good = [row for row, leaf in enumerate(leaves) if type(leaf) is int and 0 <= leaf < end]
    assert events.row.tolist() == good
    assert events.ts_ms.tolist() == [leaves[row] * 1000 // _PER_SECOND[unit] for row in good]
    assert len(rejects) == len(leaves) - len(good)


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("1999-12-31T23:59:59.999Z", "is 1999-12-31T23:59:59.999Z, before record.earliest"),
        ("2000-01-01", None),
        ("2099-12-31T23:59:59.999Z", None),
        ("2100-01-01", "is 2100-01-01T00:00:00.000Z, not before record.latest"),
        ("2261-12-31", "is 2261-12-31T00:00:00.000Z, not before record.latest"),
    ],
)
def test_a_time_out_of_all_bounds_is_rejected(time: str, said: str | None) -> None:
    _, rejects = decode({"t": time}, timestamp="t")
    assert rejects.reason == ([f"bad_timestamp: t: {said}"] if said else [])


def test_the_records_own_time_keeps_the_bounds_too() -> None:
    times = [946_684_799_999, 946_684_800_000, 4_102_444_799_999, 4_102_444_800_000]
    events, rejects = JsonCodec(Record(), [], []).decode(raw_batch([b"{}"] * 4, None, times))
    assert events.row.tolist() == [1, 2]
    assert rejects.reason == [
        "bad_timestamp: $timestamp: is 1999-12-31T23:59:59.999Z, before record.earliest",
        "bad_timestamp: $timestamp: is 2100-01-01T00:00:00.000Z, not before record.latest",
    ]


@settings(max_examples=200)
@given(st.floats(0, 9e9), st.sampled_from(sorted(_PER_SECOND)))
def test_floats_since_the_epoch_are_within_a_microsecond(seconds: float, unit: str) -> None:
    leaf = seconds * _PER_SECOND[unit]
    exact_ms = Fraction(leaf) / _PER_SECOND[unit] * 1000
    found = ms(leaf, unit)
    assert found is not None
    # a double of such a size is itself known to two microseconds only
    assert exact_ms - 1 - Fraction(2, 1000) < found <= exact_ms + Fraction(2, 1000)


def test_floats_since_the_epoch() -> None:
    assert ms(1_700_000_000.123, "s") == 1_700_000_000_123
    assert ms(1.7e12, "ms") == 1_700_000_000_000
    assert ms(8.158, "s") == 8_158  # 8157.999... in binary
    assert ms(539_870.842, "s") == 539_870_842
    assert ms(0.0, "s") == 0
    for leaf in (-1e-9, -1, 9.3e9, 1e300, "5", True, None):
        assert ms(leaf, "s") is None
    assert ms("1700000000.5", "s", numbers_as_text=True) == 1_700_000_000_500
    assert ms("1700000000123456789", "ns", numbers_as_text=True) == 1_700_000_000_123
    assert ms("9" * 5000, "ns", numbers_as_text=True) is None


def fnv(text: bytes) -> int:
    if not text:
        return 0
    mixed = 14695981039346656037
    for byte in text:
        mixed = (mixed ^ byte) * 1099511628211 % 2**64
    mixed = (mixed ^ mixed >> 33) * 0xFF51AFD7ED558CCD % 2**64
    mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
    return max(mixed ^ mixed >> 33, 1)


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_codes_are_the_documented_hash(rows: list[bytes]) -> None:
    assert hashing.codes(Strings.of(rows)).tolist() == [fnv(row) for row in rows]


def test_codes_are_pinned_and_the_same_in_another_process() -> None:
    program = (
        "from stream_ad.batch import Strings; from stream_ad.codec.hashing import codes;"
        "print(codes(Strings.of([b'', b'merchant', b'\\xc3\\xa4'])).tolist())"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == PINNED


PINNED = [0, 10524915362430414636, 15318687057960512302]
