"""Alerts as messages."""

from __future__ import annotations

import math

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import (
    Alerts,
    Phase,
    Rule,
)
from stream_ad.messages import alerts as alert
from stream_ad.messages.explain import Contributor
from tests.support.alerts import VALIDATOR, WHY, alerts_of, size, verdicts_of


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
        "expected_ms": st.integers(0, 10**12), "silent_ms": st.just(0), "slot": st.just(0), "now_ms": any_ms,
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
@settings(max_examples=80)
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
