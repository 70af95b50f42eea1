"""Alerts and rejects as messages."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import jsonschema
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import (
    Alerts,
    EventBatch,
    FeatureBatch,
    KeyedBatch,
    Message,
    Phase,
    RawBatch,
    RejectBatch,
    Rule,
    Scores,
    Strings,
    Verdicts,
    WindowBatch,
)
from stream_ad.messages import alerts as alert
from stream_ad.messages import rejects as reject
from stream_ad.messages.explain import Contributor

SCHEMA = json.loads((Path(__file__).parents[3] / "docs/alert.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
WHY = Contributor(
    "amount.zscore", "amount", "zscore", 812.4, 62.5, 35.0, 90.0, "above", 0, 0.8, 9.1,
    "amount 812.40, expected 35–90, 9.1 σ above",
)  # fmt: skip


def verdicts_of(values: list[bytes]) -> Verdicts:
    n = len(values)
    rows = np.arange(n)
    raw = RawBatch("cards", 3, rows, np.full(n, -1), [b"k"] * n, list(values), lambda row: [], n)
    events = EventBatch(
        raw,
        rows,
        rows,
        np.zeros(n, np.int64),
        Strings.of([b"k"] * n),
        np.zeros((n, 0)),
        (),
        np.zeros((n, 0), np.uint64),
    )
    keyed = KeyedBatch(events, np.zeros(n, np.int32), np.zeros(n, bool), np.zeros(n, np.int64), 0, None)
    windows = WindowBatch(
        keyed, np.zeros((n, 1, 0)), np.zeros((n, 1), np.int64), np.ones(n, np.int32), np.ones(n, bool)
    )
    features = FeatureBatch(windows, rows, np.zeros((n, 1, 1), np.float32), np.zeros((n, 0, 2)))
    zeros = np.zeros(n)
    return Verdicts(Scores(features, "ae-7", zeros), zeros, zeros, zeros, zeros > 1, zeros > 1)


def alerts_of(*rows: dict) -> Alerts:
    base = {
        "rule": Rule.score, "phase": Phase.opened, "offset": 9, "incident": 9, "about": 9, "key": b"card-17",
        "row": -1, "ts_ms": 1_767_528_000_123, "opened_ms": 1_767_527_940_123, "events": 1, "score": 8.25,
        "threshold": 4.5, "p_value": 1e-8, "peak_p": 1e-8, "expected_ms": 0,
    }  # fmt: skip
    cells = [{**base, **row} for row in rows]
    types = {"rule": np.uint8, "phase": np.uint8} | dict.fromkeys(("score", "threshold", "p_value", "peak_p"), float)
    columns = {
        name: np.array([cell[name] for cell in cells], types.get(name, np.int64)) for name in base if name != "key"
    }
    return Alerts(key=Strings.of([cell["key"] for cell in cells]), **columns)


def encoded(alerts: Alerts, told=None, values=(b"{}",), payload_fields=(), most_bytes=900_000):
    return alert.encode(
        alerts,
        verdicts_of(list(values)),
        told or {},
        pipeline="fraud",
        topic="cards",
        partition=3,
        most_bytes=most_bytes,
        payload_fields=payload_fields,
    )


def body_of(**row) -> dict:
    return orjson.loads(encoded(alerts_of(row))[0].value)


def test_an_alert_in_full():
    value = b'{"amount": 812.4, "merchant": {"id": "X9", "pin": "1234"}, "secret": 1}'
    message = encoded(alerts_of({"row": 0}), {0: [WHY]}, [value], ["amount", "merchant.id", "absent", "amount.deeper"])[
        0
    ]
    assert message.key == b"card-17"
    assert orjson.loads(message.value) == {
        "id": "cards/3/9/score",
        "incident": "cards/3/9/score",
        "phase": "opened",
        "rule": "score",
        "key": "card-17",
        "event_time": "2026-01-04T12:00:00.123Z",
        "opened_at": "2026-01-04T11:59:00.123Z",
        "events": 1,
        "score": 8.25,
        "threshold": 4.5,
        "p_value": 1e-8,
        "severity": "high",
        "model": "ae-7",
        "position": {"topic": "cards", "partition": 3, "offset": 9},
        "summary": "card-17 is anomalous: amount 812.40, expected 35–90, 9.1 σ above.",
        "contributors": [
            {
                "feature": "amount.zscore", "field": "amount", "kind": "zscore", "observed": 812.4, "expected": 62.5,
                "low": 35.0, "high": 90.0, "direction": "above", "lag_rows": 0, "share": 0.8, "deviations": 9.1,
                "text": "amount 812.40, expected 35–90, 9.1 σ above",
            }
        ],
        "payload": {"amount": 812.4, "merchant.id": "X9"},
    }  # fmt: skip
    assert message.headers == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"cards/3/9/score"),
        ("ce_type", b"stream_ad.alert.opened"),
        ("ce_source", b"stream_ad/fraud"),
        ("ce_time", b"2026-01-04T12:00:00.123Z"),
        ("ce_subject", b"card-17"),
        ("content-type", b"application/json"),
    ]


def test_what_is_not_meant_is_null_and_what_is_silent_says_since_when():
    nan = math.nan
    body = body_of(
        rule=Rule.silence, offset=50, incident=50, score=nan, threshold=nan, p_value=nan, peak_p=nan, expected_ms=30_000
    )
    assert (body["score"], body["threshold"], body["p_value"], body["severity"]) == (None, None, None, "medium")
    assert (body["silent_since"], body["expected_gap_ms"]) == ("2026-01-04T12:00:00.123Z", 30_000)
    assert body["summary"] == ("card-17 is silent since 2026-01-04T12:00:00.123Z; its next event was due within 30 s.")
    assert body["id"] == "cards/3/50/silence/card-17"


def test_phases_are_told_in_words():
    updated = "card-17 is still anomalous, 4 events in 1 min; the model gives no reasons."
    assert body_of(phase=Phase.updated, events=4)["summary"] == updated
    assert body_of(phase=Phase.resolved, events=4)["summary"] == "card-17 is normal again after 4 events in 1 min."
    assert "new level" in body_of(rule=Rule.shift)["summary"]
    assert body_of(rule=Rule.silence, phase=Phase.resolved)["summary"] == "card-17 speaks again."


def test_severity_goes_by_the_worst_of_the_incident():
    found = [body_of(p_value=1e-3, peak_p=p)["severity"] for p in (1e-4, 1e-5, 9e-6, 9e-8, 9e-11, 0.0)]
    assert found == ["low", "low", "medium", "high", "critical", "critical"]
    assert body_of(p_value=1e-9, peak_p=math.nan)["severity"] == "high"


def test_no_two_alerts_of_one_event_share_an_id():
    silences = [{"rule": Rule.silence, "key": b"%d" % i} for i in range(3)]
    resolved = [{"phase": Phase.resolved, "incident": i} for i in range(3)]
    own = [{}, {"rule": Rule.shift}, {"phase": Phase.updated, "incident": 4}]
    ended = [{"rule": Rule.silence, "phase": Phase.resolved, "incident": i} for i in range(3)]
    bodies = [orjson.loads(message.value) for message in encoded(alerts_of(*silences, *resolved, *own, *ended))]
    assert len({body["id"] for body in bodies}) == len(bodies)
    assert len({body["incident"] for body in bodies[:3]}) == 3


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"card 7", "card 7"),
        ("žluťák".encode(), "žluťák"),
        (b"\xff\x00", "hex:ff00"),
        (b"a\nb", "hex:610a62"),
        (b"hex:61", "hex:6865783a3631"),
        (b"", ""),
    ],
)
def test_keys_become_text(key, shown):
    message = encoded(alerts_of({"key": key}))[0]
    assert orjson.loads(message.value)["key"] == shown
    assert message.key == key


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_different_keys_have_different_texts(a, b):
    assert (alert.text_of(a) == alert.text_of(b)) == (a == b)


any_float = st.floats() | st.just(math.nan)
any_offset = st.integers(0, 2**62)
any_ms = st.integers(-(10**13), 253_402_300_799_999)
any_row = st.fixed_dictionaries(
    {
        "rule": st.sampled_from(Rule), "phase": st.sampled_from(Phase), "offset": any_offset, "incident": any_offset,
        "about": any_offset, "key": st.binary(max_size=9), "row": st.integers(-1, 1), "ts_ms": any_ms,
        "opened_ms": any_ms, "events": st.integers(0, 10**9), "score": any_float, "threshold": any_float,
        "p_value": st.floats(0, 1) | st.just(math.nan), "peak_p": st.floats(0, 1) | st.just(math.nan),
        "expected_ms": st.integers(0, 10**12),
    }
)  # fmt: skip
any_number = st.none() | st.floats()
any_contributor = st.builds(
    Contributor,
    feature=st.text(), field=st.text(), kind=st.text(), observed=any_number | st.text(), expected=any_number,
    low=any_number, high=any_number, direction=st.sampled_from(["above", "novel", "missing", "unusual"]),
    lag_rows=st.integers(0, 500), share=st.floats(0, 1), deviations=st.none() | st.floats(0),
    text=st.text(min_size=1),
)  # fmt: skip


@given(st.lists(any_row, min_size=1, max_size=4), st.lists(any_contributor, max_size=2), st.binary(max_size=20))
@settings(max_examples=80, deadline=None)
def test_every_alert_fits_the_schema(rows, told, value):
    messages = encoded(alerts_of(*rows), {0: told, 1: told}, [value, b'{"a": {"b": [1, null]}}'], ["a", "a.b"])
    for row, message in zip(rows, messages, strict=True):
        body = orjson.loads(message.value)
        VALIDATOR.validate(body)
        assert body["score"] == (row["score"] if math.isfinite(row["score"]) else None)
        assert dict(message.headers)["ce_id"].decode() == body["id"]


@pytest.mark.parametrize("most_bytes", [65_536, 900_000])
def test_a_payload_that_is_too_large_is_left_out_and_named(most_bytes: int):
    grown = b"[" + b",".join([b"1e15"] * 100_000) + b"]"  # written again, each is 18 bytes
    value = b'{"a": 1, "grown": %b, "b": 2, "\xc2\xa0": "%b", "z": 3}' % (grown, b"y" * 60_000)
    names = ["a", "grown", "b", "\xa0", "z"]
    (message,) = encoded(alerts_of({"row": 0, "key": b"\xff" * 1024}), {0: [WHY]}, [value], names, most_bytes)
    body = orjson.loads(message.value)
    VALIDATOR.validate(body)
    kept, omitted = (
        ({"a", "b", "z"}, ["grown", "\xa0"]) if most_bytes == 65_536 else ({"a", "b", "\xa0", "z"}, ["grown"])
    )
    assert set(body["payload"]) == kept
    assert body["payload_omitted"] == omitted
    assert size(message) <= most_bytes


@pytest.mark.parametrize(("room", "kept"), [(0, 0), (1, 1)])
def test_an_alert_is_as_large_as_it_may_be_and_no_larger(room: int, kept: int):
    def sized(most_bytes: int):
        value = b'{"a": "%b"}' % (b"y" * 70_000)
        (message,) = encoded(alerts_of({"row": 0}), None, [value], ["a"], most_bytes)
        return message, len(orjson.loads(message.value)["payload"])

    least = next(most for most in range(71_000, 80_000) if sized(most)[1])
    message, found = sized(least - 1 + room)
    assert found == kept
    assert size(message) <= least < size(sized(least)[0]) + 1000


@pytest.mark.parametrize("depth", [200, 250, 260, 1000])
def test_a_payload_that_can_be_read_but_not_written_is_left_out(depth: int):
    value = b'{"deep": %b, "a": 1}' % (b"[" * depth + b"]" * depth)
    body = orjson.loads(encoded(alerts_of({"row": 0}), None, [value], ["deep", "a"])[0].value)
    VALIDATOR.validate(body)
    assert body["payload"]["a"] == 1
    assert ("deep" in body["payload"]) == (depth <= 250)
    assert body.get("payload_omitted", []) == ([] if depth <= 250 else ["deep"])


def test_the_schema_refuses_what_is_not_an_alert():
    good = body_of()
    VALIDATOR.validate(good)
    for spoilt in (
        {"severity": "awful"},
        {"score": "8"},
        {"silent_since": "2026"},
        {"extra": 1},
        {"event_time": "now"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            VALIDATOR.validate(good | spoilt)


def test_a_reject_keeps_the_record_and_says_why():
    headers = {0: [], 1: [("trace", b"7"), ("reject_code", b"old"), ("empty", None)]}
    raw = RawBatch(
        "cards", 2, np.array([5, 6]), np.array([1, 2]), [b"a", None], [b"{}", b"\xff{"], headers.__getitem__, 7
    )
    (message,) = reject.encode(RejectBatch(raw, [1], ["bad_json: malformed (byte 0)"]), 65_536)
    assert (message.key, message.value) == (None, b"\xff{")
    assert message.headers == [
        ("trace", b"7"),
        ("empty", None),
        ("reject_code", b"bad_json"),
        ("reject_reason", b"bad_json: malformed (byte 0)"),
        ("reject_topic", b"cards"),
        ("reject_partition", b"2"),
        ("reject_offset", b"6"),
    ]


def rejected(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]], most_bytes: int):
    raw = RawBatch("cards", 2, np.array([6]), np.array([1]), [key], [value], lambda row: headers, 7)
    (message,) = reject.encode(RejectBatch(raw, [0], ["bad_json: malformed (byte 0)"]), most_bytes)
    return message, dict(message.headers)


def size(message: Message) -> int:
    parts = [message.key, message.value, *(part for name, value in message.headers for part in (name.encode(), value))]
    return sum(len(part or b"") for part in parts)


def test_a_reject_that_no_broker_would_take_is_cut_and_says_so():
    value = b"x" * 1_000_000
    message, told = rejected(b"k", value, [("trace", b"7")], 900_000)
    assert size(message) <= 900_000
    assert len(message.value) > 890_000
    assert value.startswith(message.value)
    assert (message.key, told["trace"]) == (b"k", b"7")
    assert (told["reject_offset"], told["reject_code"]) == (b"6", b"bad_json")
    assert told["reject_cut"] == b"value"
    assert told["reject_value_bytes"] == b"1000000"
    assert told["reject_value_sha256"] == hashlib.sha256(value).hexdigest().encode()


@pytest.mark.parametrize("key", [None, b"", b"k" * 1024, b"k" * 1025, b"k" * 10_000_000])
@pytest.mark.parametrize("value", [None, b"", b"v" * 64_000, b"v" * 65_000, b"v" * 10_000_000])
@pytest.mark.parametrize(
    "headers", [[], [("h", b"v" * 64_000)], [("h" * 70_000, None)], [("h", b"")] * 5000, [("h", b"v")]]
)
def test_a_reject_always_fits(key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]):
    message, told = rejected(key, value, headers, 65_536)
    assert size(message) + 16 * len(message.headers) <= 65_536
    whole = {"key": message.key == key, "value": message.value == value, "headers": message.headers[:1] == headers[:1]}
    cut = told.get("reject_cut", b"").decode().split()
    assert cut == [part for part in ("key", "headers", "value") if not whole[part] and (part != "headers" or headers)]
    assert (message.key is None, message.value is None) == (key is None, value is None)
    if all(whole.values()):
        assert "reject_cut" not in told


def test_a_reject_that_is_rejected_again_does_not_grow():
    first, _ = rejected(b"k", b"x" * 1_000_000, [("trace", b"7")], 900_000)
    second, _ = rejected(first.key, first.value, first.headers, 900_000)
    assert size(second) <= size(first)
