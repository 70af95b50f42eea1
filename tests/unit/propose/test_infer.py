"""What a sample tells, and that whatever it tells becomes a configuration that works."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.batch import RawBatch
from stream_ad.codec.json import JsonCodec
from stream_ad.config import Config, parse
from stream_ad.config.features import FeatureSpec
from stream_ad.propose.infer import Proposal, Sample, infer
from stream_ad.propose.presets import PRESETS
from stream_ad.propose.toml import toml_of

START = datetime(2026, 1, 1, tzinfo=UTC)


def sample_of(documents, keys=None) -> Sample:
    values = [document if isinstance(document, bytes) else orjson.dumps(document) for document in documents]
    return Sample(keys or [None] * len(values), values, [0] * len(values))


def config_of(proposal: Proposal) -> Config:
    text = toml_of(proposal, "p", "t", "127.0.0.1:9092", "a test")
    return parse(tomllib.loads(text))


def rejected(sample: Sample, config: Config) -> list[str]:
    spec = FeatureSpec.of(config)
    n = len(sample.value)
    now_ms = np.full(n, 1_767_225_600_000)
    raw = RawBatch("t", 0, np.arange(n), now_ms, list(sample.key), list(sample.value), lambda row: [], n)
    return JsonCodec(config.record, spec.numeric, spec.categorical).decode(raw)[1].reason


def cards(count: int = 400):
    random = np.random.default_rng(1)
    for i in range(count):
        yield {
            "tx_id": f"tx-{i}",
            "card": f"c{random.integers(20)}",
            "at": (START + timedelta(seconds=int(i * 60 + random.integers(50)))).isoformat(),
            "amount": round(float(random.lognormal(3, 1.5)), 2),
            "merchant_id": int(random.integers(50)),
            "where": {"country": str(random.choice(["CZ", "DE"])), "lat": round(float(random.normal()), 3)},
            "currency": "EUR",
            "is_fraud": int(random.random() < 0.01),
            "note": None,
            "tags": ["a"],
        }


def test_a_stream_of_transactions():
    sample = sample_of(cards())
    found = infer(sample)
    assert (found.key, found.timestamp, found.timestamp_format) == ("card", "at", "iso")
    assert {name: choice.features for name, choice in found.numeric.items()} == {
        "amount": ["zscore_log"],
        "where.lat": ["zscore"],
    }
    assert list(found.categorical) == ["merchant_id", "where.country"]
    assert found.event == ["gap", "count:1h"] or found.event == ["gap", "count:1d"]
    assert "label" in found.left_out["is_fraud"]
    assert found.left_out["currency"] == "always EUR"
    assert found.left_out["tags"] == "holds arrays"
    assert found.left_out["tx_id"] == "nearly every record has a value of its own"
    config = config_of(found)
    assert config.record.key == "card"
    assert rejected(sample, config) == []


def test_a_stream_of_sensors():
    levels = np.cumsum(np.random.default_rng(2).normal(size=600)) + 100
    documents = [
        {"device": f"d{i % 3}", "ts": 1_767_225_600_000 + 300_000 * (i // 3), "level": float(level)}
        for i, level in enumerate(levels)
    ]
    keys = [document["device"].encode() for document in documents]
    found = infer(sample_of(documents, keys))
    assert (found.key, found.timestamp, found.timestamp_format) == ("device", "ts", "ms")
    assert found.numeric["level"].features == ["zscore"]
    assert found.key_why == "3 different record keys in 600 records, the same as device"
    assert (found.rhythm.steady, found.rhythm.gap_ms, found.event, found.rows) == (True, 300_000, ["gap"], 16)
    config = config_of(found)
    assert (config.silence.enabled, config.silence.min_gap) == (True, 900_000)
    assert config.incidents.resolve_after == 3_600_000
    assert config.threshold.escape_after == 10_800_000
    assert rejected(sample_of(documents, keys), config) == []


def test_rows_that_only_count_up():
    sample = sample_of([{"timestamp": i, "key": "http", "x": i % 7 * 1.5} for i in range(100)])
    found = infer(sample)
    assert rejected(sample, config_of(found)) == []
    assert (found.key, found.timestamp, found.timestamp_format, found.real_time) == ("key", "timestamp", "s", False)
    assert found.event == []
    assert any("counts up" in text for text in found.undecided)


def test_an_old_log_is_not_rejected_for_its_age_but_a_clock_that_was_reset_is():
    old = [{"key": "a", "timestamp": f"1998-05-{i + 1:02}T00:00:00Z", "x": i} for i in range(28)]
    assert rejected(sample_of(old), config_of(infer(sample_of(old)))) == []
    reset = sample_of([{**old[0], "timestamp": f"20{i}-01-01"} for i in range(10, 26)] + old[:2])
    assert len(rejected(reset, config_of(infer(reset)))) == 2


def test_record_keys_that_repeat_are_taken():
    found = infer(sample_of([{"user": "u", "x": i % 7} for i in range(50)], [b"%d" % (i % 5) for i in range(50)]))
    assert (found.key, found.key_why) == ("$key", "5 different record keys in 50 records")


def test_keys_that_never_repeat_name_nobody():
    documents = [{"customer_id": i % 5, "x": i} for i in range(50)]
    found = infer(sample_of(documents, [b"%d" % i for i in range(50)]))
    assert found.key == "customer_id"
    found = infer(sample_of([{"x": i * 0.5} for i in range(50)]))
    assert found.key == "$key"
    assert any("record.key" in text for text in found.undecided)
    assert any("record.timestamp" in text for text in found.undecided)


def test_numbers_as_text_and_missing_values():
    documents = [{"key": "a", "x": str(i * 0.5), "y": None if i % 4 else i, "zip": f"0{i % 5}"} for i in range(80)]
    found = infer(sample_of(documents))
    assert found.numbers_as_text
    assert found.numeric["y"].features[-1] == "missing"
    assert list(found.categorical) == ["zip"]
    assert rejected(sample_of(documents), config_of(found)) == []


def test_what_the_codec_would_reject_is_left_out():
    documents = [{"key": "a", "x": i % 3, "text": "y" * (i % 3) + "z" * 300 * (i == 7)} for i in range(40)]
    found = infer(sample_of(documents))
    assert found.left_out["text"] == "long text"
    assert rejected(sample_of(documents), config_of(found)) == []


def test_any_name_can_be_written():
    name = 'ž\x01\x7f"\n\\ \u2028]'
    documents = [{"key": "a", name: i % 3, f"{name}2": "same"} for i in range(40)]
    config = config_of(infer(sample_of(documents)))
    assert list(config.features.numeric) == [name]
    assert rejected(sample_of(documents), config) == []


def test_late_events_and_garbage():
    documents = [
        {"key": "a", "time": (START + timedelta(seconds=i - 30 * (i == 40))).isoformat(), "x": i % 9} for i in range(60)
    ]
    found = infer(sample_of([*documents, b"{", b"[]", b"\xff"]))
    assert (found.records, found.unreadable, found.rhythm.lateness_ms) == (60, 3, 29_000)
    assert config_of(found).window.allowed_lateness == 29_000


@pytest.mark.parametrize(
    "values", [[], [b"{"], [b"{}"], [b'{"a": null}'], [b'{"": 1}'], [b'{"a.b": 1}'], [b'{".": 1}']]
)
def test_a_poor_sample_still_gives_a_configuration(values):
    found = infer(Sample([None] * len(values), values, [0] * len(values)))
    assert found.undecided
    FeatureSpec.of(config_of(found))


def stream(count: int = 300, **fields):
    """Sensors that speak every ten seconds; `fields` are functions of a record's number, and may replace theirs."""
    for i in range(count):
        at = START + timedelta(seconds=10 * (i // 3))
        document = {"ts": at.isoformat(), "sensor": f"p{i % 3}", "temp": 20 + (7919 * i % 100) / 50}
        yield document | {name: make(i, at) for name, make in fields.items()}


def test_names_that_hold_dots_are_proposed_and_read():
    sample = sample_of({"ts": d["ts"], "id.host": d["sensor"], "id": "x", "No.": d["temp"]} for d in stream())
    found = infer(sample)
    assert (found.key, list(found.numeric)) == ("id.host", ["No."])
    assert rejected(sample, config_of(found)) == []


@pytest.mark.parametrize(
    "make", [lambda i: i % 3 + 1.0, lambda i: str(1001 + i % 3), lambda i: f"A{i % 3}" * (i % 11 > 0)]
)
def test_ids_that_went_through_a_float_or_are_missing_at_times_are_keys(make):
    sample = sample_of(stream(sensor=lambda i, at: make(i)))
    found = infer(sample)
    assert found.key == "sensor"
    reasons = rejected(sample, config_of(found))
    assert len(reasons) == sum(not make(i) for i in range(300))
    assert (f"{len(reasons)} have none and are rejected" in found.key_why) == bool(reasons)


def test_a_few_texts_among_numbers_are_said_and_rejected():
    sample = sample_of(stream(temp=lambda i, at: "ERR" if i in (7, 90) else i % 9 + 0.5))
    found = infer(sample)
    assert "2 are no numbers and rejected" in found.numeric["temp"].why
    assert [reason[:16] for reason in rejected(sample, config_of(found))] == ["bad_number: temp"] * 2
    assert not found.numbers_as_text


@pytest.mark.parametrize(("unit", "form"), [(1, "s"), (10**3, "ms"), (10**6, "us"), (10**9, "ns")])
@pytest.mark.parametrize("write", [int, str])
def test_times_since_the_epoch_are_found_as_numbers_and_as_text(unit, form, write):
    sample = sample_of(stream(ts=lambda i, at: write(int(at.timestamp()) * unit)))
    found = infer(sample)
    assert (found.timestamp, found.timestamp_format, found.numbers_as_text) == ("ts", form, write is str)
    assert rejected(sample, config_of(found)) == []


def test_a_day_and_a_clock_in_two_fields_are_no_time_and_no_features():
    documents = ({**d, "date": d["ts"][:10], "time": d["ts"][11:19]} for d in stream())
    found = infer(sample_of({name: d[name] for name in ("date", "time", "sensor", "temp")} for d in documents))
    assert found.timestamp == "$timestamp"
    assert any("two fields, date and time" in text for text in found.undecided)
    assert {"date", "time"} <= found.left_out.keys()
    assert list(found.categorical) == []


def test_the_rhythm_is_that_of_consecutive_records():
    """A thousand cards that pay when they please: in stretches of 100 records none is seen twice."""
    noise = np.random.default_rng(3)
    documents = [
        {"card": f"c{noise.integers(1000)}", "ts": (START + timedelta(minutes=i)).isoformat(), "amount": noise.random()}
        for i in range(20_000)
    ]
    values = [orjson.dumps(document) for document in documents]
    part = [value for start in range(0, 20_000, 2_800) for value in values[start : start + 100]]
    found = infer(Sample([None] * len(part), part, [0] * len(part), values))
    assert not found.rhythm.steady
    assert found.rhythm.gap_ms == pytest.approx(1000 * 60_000 * np.log(2), rel=0.3)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (lambda d: (d["sensor"], d["ts"]), "come key after key"),
        (lambda d: -datetime.fromisoformat(d["ts"]).timestamp(), "come newest first"),
        (lambda d: d["ts"], ""),
    ],
)
def test_a_table_that_is_not_sorted_by_time_is_said_and_has_no_lateness(order, said):
    found = infer(sample_of(sorted(stream(), key=order)))
    assert found.rhythm.lateness_ms == 0
    assert (found.rhythm.gap_ms, found.rhythm.steady) == (10_000, True)
    assert len(found.undecided) == bool(said)
    assert said in "".join(found.undecided)


names = st.text(min_size=0, max_size=6) | st.sampled_from(
    ["key", "timestamp", "ts", "amount", "user_id", "label", "a", "b", "$key", "event"]
)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6) | st.sampled_from(["2026-01-01T00:00:00Z", "1.5", "007"])
)  # fmt: skip


@st.composite
def tables(draw):
    """Mostly well-behaved columns, some with cells of another kind."""
    columns = draw(
        st.dictionaries(names, st.sampled_from(["int", "float", "text", "time", "any", "object"]), max_size=5)
    )
    kinds = {
        "int": st.integers(0, 5) | st.integers(0, 2**40),
        "float": st.floats(-1e9, 1e9),
        "text": st.sampled_from(["x", "y", "z"]),
        "time": st.integers(0, 10**6).map(lambda s: (START + timedelta(seconds=s)).isoformat()),
        "any": scalars,
        "object": st.dictionaries(names, scalars, max_size=2),
    }
    rows = draw(st.integers(1, 30))
    table = [{name: draw(kinds[kind]) for name, kind in columns.items()} for _ in range(rows)]
    keys = draw(st.sampled_from([[None], [b"k"], [b"a", b"b"]]))
    return table, [keys[row % len(keys)] for row in range(rows)]


@given(tables())
@settings(max_examples=150)
def test_any_table_gives_a_configuration_that_reads_it(table):
    documents, keys = table
    sample = sample_of(documents, keys)
    proposal = infer(sample)
    config = config_of(proposal)
    reasons = rejected(sample, config)
    # the key and the time may be missing from a few records, or be left undecided
    others = [reason for reason in reasons if not reason.startswith(("bad_key", "bad_timestamp"))]
    assert all("are no numbers and rejected" in proposal.numeric[reason.split(": ")[1]].why for reason in others)
    if not proposal.undecided and not others:
        assert len(reasons) <= 0.4 * len(documents)
        assert len(reasons) <= 0.02 * len(documents) or "%" in proposal.timestamp_why or "rejected" in proposal.key_why


def test_milliseconds_that_rise_are_a_time_whatever_their_name():
    rising = [{"k": f"k{i % 5}", "t": 1_700_000_000_000 + 1000 * i, "a": i % 7} for i in range(200)]
    assert (infer(sample_of(rising)).timestamp, infer(sample_of(rising)).timestamp_format) == ("t", "ms")
    counted = [{**document, "t": document["t"] // 1000} for document in rising]
    assert infer(sample_of(counted)).timestamp == "$timestamp"
    shuffled = [{**document, "t": 1_700_000_000_000 + 7919 * 1000 * i % 1_000_003} for i, document in enumerate(rising)]
    assert infer(sample_of(shuffled)).timestamp == "$timestamp"


def test_a_rhythm_is_seen_through_the_holes_of_a_sample():
    stretches = [range(start, start + 100) for start in (0, 5_000, 20_000)]
    seconds = [second for stretch in stretches for second in stretch]
    steady = [{"k": f"k{second % 5}", "time": 1_700_000_000 + second, "a": second % 7} for second in seconds]
    assert infer(sample_of(steady)).rhythm.steady
    keys = np.random.default_rng(0).integers(5, size=len(steady)).tolist()
    free = [{**document, "k": f"k{key}"} for document, key in zip(steady, keys, strict=True)]
    assert not infer(sample_of(free)).rhythm.steady


@pytest.mark.parametrize("keys", [1, 10, 400])
def test_how_often_a_key_speaks_is_seen_where_a_sample_has_little_of_each(keys: int) -> None:
    """Ten events a second, of any key: the places of the sample lie an hour apart."""
    noise = np.random.default_rng(keys)
    documents = [
        {
            "k": f"k{noise.integers(keys)}",
            "time": 1_700_000_000_000 + 3_600_000 * place + round(100 * (row + noise.random())),
            "a": noise.normal(),
        }
        for place in range(8)
        for row in range(250)
    ]
    found = infer(sample_of(documents))
    assert found.rhythm.gap_ms == pytest.approx(100 * keys, rel=0.35)
    assert config_of(found).incidents.resolve_after == (600_000 if keys == 400 else 300_000)
    assert found.rhythm.steady == (keys == 1)


def rhythm_of(keys_at) -> Sample:
    """An event of each key that `keys_at` names, in each of 100 seconds."""
    return sample_of(
        [{"k": f"k{key}", "time": 1_700_000_000 + second, "a": key} for second in range(100) for key in keys_at(second)]
    )


@pytest.mark.parametrize(
    ("keys_at", "watched"),
    [
        (lambda second: range(20), True),
        (lambda second: range(20 if second < 50 else 19), True),  # one of twenty may just be silent
        (lambda second: range(second // 10, second // 10 + 5), False),  # keys come and go
        (lambda second: range(1), False),  # nobody is there to notice
        (lambda second: range(5 * (second**2 % 7 < 2)), False),
    ],
)
def test_silence_is_watched_where_the_keys_of_a_steady_stream_go_on(keys_at, watched):
    config = config_of(infer(rhythm_of(keys_at)))
    assert config.silence.enabled == watched
    assert config.silence.min_gap == 60_000  # three gaps are shorter


@pytest.mark.parametrize("name", PRESETS)
def test_numbers_are_judged_together_where_the_domain_has_it(name: str) -> None:
    rng = np.random.default_rng(0)
    documents = [
        {"device": f"d{i % 7}", "ts": 1_700_000_000 + 60 * i, "level": rng.normal(), "load": rng.normal()}
        for i in range(600)
    ]
    plain, found = infer(sample_of(documents)), infer(sample_of(documents), PRESETS[name])
    joint = PRESETS[name].joint
    together, beside = ([], PRESETS[name].beside) if joint is None else (["joint"], joint)
    assert found.event == plain.event + together
    assert config_of(found).features.numeric["load"] == [*plain.numeric["load"].features, *beside]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_adds_what_is_known_of_the_domain(name: str) -> None:
    rng = np.random.default_rng(0)
    documents = [
        {"device": f"d{i % 7}", "ts": 1_700_000_000 + 60 * i, "level": rng.normal(), "on": i % 2, "mode": "ab"[i % 2]}
        for i in range(600)
    ]
    plain, found = infer(sample_of(documents)), infer(sample_of(documents), PRESETS[name])
    config = config_of(found)
    assert config.features.numeric["level"] == [*plain.numeric["level"].features, *PRESETS[name].beside]
    assert config.features.numeric["on"] == plain.numeric["on"].features
    assert config.features.categorical["mode"] == [*plain.categorical["mode"].features, *PRESETS[name].categories]
    assert config.window.rows == PRESETS[name].rows
    assert (found.rows_why == "the preset's") == (found.rows != plain.rows)
    assert config.threshold.false_alarm_rate == (PRESETS[name].false_alarm_rate or 1e-4)
    assert rejected(sample_of(documents), config) == []
