"""What an alert says about features, in the units of the fields."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stream_ad.batch import EventBatch, Explanation, FeatureBatch, KeyedBatch, RawBatch, Strings, WindowBatch
from stream_ad.config import parse
from stream_ad.config.features import FeatureSpec
from stream_ad.messages.explain import Contributor, contributors
from stream_ad.messages.phrases import beside, beside_seconds, duration, number, number_range

ROWS = 3
NOON_SUNDAY_MS = 1_767_528_000_000  # 2026-01-04T12:00:00Z


def spec_of(numeric: dict[str, list[str]] | None = None, categorical=None, event=()) -> FeatureSpec:
    features = {"numeric": numeric or {}, "categorical": categorical or {}, "event": list(event)}
    return FeatureSpec.of(parse({"window": {"rows": ROWS}, "features": features}))


def batch_of(spec: FeatureSpec, x, values=None, base=None, cats=(), events: int = 1) -> FeatureBatch:
    """`events` copies of one window whose events are a minute apart."""
    d, c = len(spec.numeric), len(spec.categorical)
    raw = RawBatch(
        "t", 0, np.arange(events), np.zeros(events, np.int64), [b"k"] * events, [b"{}"] * events, lambda row: [], events
    )
    made = EventBatch(
        raw=raw,
        row=np.arange(events),
        offset=np.arange(events),
        ts_ms=np.full(events, NOON_SUNDAY_MS),
        key=Strings.of([b"k"] * events),
        values=np.zeros((events, d)),
        cats=tuple(Strings.of([cats[column]] * events) for column in range(c)),
        codes=np.zeros((events, c), np.uint64),
    )
    keyed = KeyedBatch.of(made, np.zeros(events, np.int32), np.zeros(events, bool), made.ts_ms)
    windows = WindowBatch(
        keyed,
        np.tile(np.asarray(values if values is not None else np.zeros((ROWS, d)), float), (events, 1, 1)),
        np.tile(np.array([120_000, 60_000, 0]), (events, 1)),
        np.full(events, ROWS, np.int32),
        np.ones(events, bool),
    )
    return FeatureBatch(
        windows,
        np.arange(events),
        np.tile(np.asarray(x, np.float32), (events, 1, 1)),
        np.tile(np.asarray(base if base is not None else np.zeros((d, 2)), float), (events, 1, 1)),
    )


def explained(spec: FeatureSpec, contribution, expected, spread) -> Explanation:
    return Explanation(
        np.asarray([contribution], np.float32), np.asarray([expected], np.float32), np.asarray(spread, np.float32)
    )


def told(spec: FeatureSpec, x: float, expected: float, spread: float, lag: int = 0, **rest) -> Contributor:
    """The one contributor when all of the error lies at `lag` of the first feature."""
    f = len(spec.features)
    contribution = np.zeros((ROWS, f))
    contribution[ROWS - 1 - lag, 0] = 1
    batch = batch_of(spec, np.full((ROWS, f), x), **rest)
    found = contributors(
        batch, np.array([0]), explained(spec, contribution, np.full((ROWS, f), expected), np.full(f, spread)), spec
    )[0]
    assert len(found) == 1
    return found[0]


def test_zscore_is_told_around_the_mean_of_the_key():
    spec = spec_of({"amount": ["zscore"]})
    one = told(spec, 9.1, 0.0, 1.0, values=[[50], [70], [812.4]], base=[[62.5, 13.75]])
    assert one.text == "amount 812.40, expected 35–90, 9.1 σ above"
    assert (one.observed, one.expected, one.low, one.high) == (812.4, 62.5, 35.0, 90.0)
    assert (one.feature, one.field, one.direction, one.lag_rows, one.share) == (
        "amount.zscore",
        "amount",
        "above",
        0,
        1,
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_log1p_is_told_without_the_logarithm(sign):
    spec = spec_of({"bytes": ["log1p"]})
    low, high = math.log1p(10), math.log1p(1000)
    expected, spread = (low + high) / 2, (high - low) / 4
    one = told(spec, sign * math.log1p(50_000), sign * expected, spread, values=[[0], [0], [sign * 50_000]])
    assert one.observed == sign * 50_000
    ends = sorted((sign * 10, sign * 1000))
    assert (one.low, one.high) == pytest.approx(ends, rel=1e-5)
    assert one.direction == ("above" if sign > 0 else "below")


def test_diff_is_told_from_the_previous_value():
    spec = spec_of({"level": ["diff"]})
    one = told(spec, 30.0, 0.0, 1.0, values=[[99], [100], [130]])
    assert (one.observed, one.expected, one.low, one.high) == (130, 100, 98, 102)
    assert one.text == "level 130, expected 98–102, 30 σ above"


def test_rate_and_rolling_statistics_are_told_as_themselves():
    spec = spec_of({"level": ["rate"]})
    assert told(spec, -4.0, 0.0, 0.5).text == "change of level per second -4, expected -1 to 1, 8 σ below"
    spec = spec_of({"level": ["std"]})
    assert told(spec, 4.0, 1.0, 0.25).text == "spread of level 4, expected 0.5–1.5, 12 σ above"


def test_event_features_are_told_in_seconds_and_counts():
    spec = spec_of(event=["gap"])
    one = told(spec, math.log1p(7200), math.log1p(60), 0.1)
    assert one.observed == pytest.approx(7200, rel=1e-5)
    assert one.text == "time since the previous event 2 h, expected 49–74 s, 47.7 σ above"
    spec = spec_of(event=["count:1h"])
    one = told(spec, math.log1p(12), math.log1p(2), 0.2)
    assert one.text.startswith("events in 1 h 12, expected 1.0–3.5, ")


def test_a_scorer_that_knows_no_spread_tells_no_range():
    one = told(spec_of(event=["gap"]), math.log1p(720), math.log1p(5400), 0.0)
    assert one.text == "time since the previous event 12 min, usually 1.5 h"
    assert (one.low, one.high, one.deviations, one.direction) == (None, None, None, "below")
    assert one.expected == pytest.approx(5400, rel=1e-5)


def test_categories_are_told_by_name_for_the_newest_event_only():
    spec = spec_of(categorical={"merchant": ["novelty"]})
    one = told(spec, 1.0, 0.0, 0.1, cats=[b"X9"])
    assert (one.text, one.observed, one.direction) == ("merchant X9 never seen for this key", "X9", "novel")
    earlier = told(spec, 1.0, 0.0, 0.1, lag=2, cats=[b"X9"])
    assert (earlier.text, earlier.observed) == ("merchant never seen for this key (2 events before)", None)
    spec = spec_of(categorical={"merchant": ["frequency"]})
    low, high = math.log(0.2), math.log(0.6)
    one = told(spec, math.log(0.01), (low + high) / 2, (high - low) / 4, cats=[b"X9"])
    assert one.text == "merchant X9 in 1 % of the events of this key, expected 20–60 %"
    assert (one.direction, one.low, one.high) == ("rare", pytest.approx(0.2), pytest.approx(0.6))


def test_missing_values_and_unusual_times_are_said():
    spec = spec_of({"amount": ["missing"]})
    assert told(spec, 1.0, 0.0, 0.1).text == "amount is missing"
    assert told(spec, 0.0, 1.0, 0.1).text == "amount is present, usually missing"
    spec = spec_of({"amount": ["raw"]})
    assert told(spec, math.nan, 0.0, 0.1, values=np.full((ROWS, 1), math.nan)).text == "amount has no value"
    assert told(spec_of(event=["time_of_day"]), 0.0, 1.0, 0.1).text == "12:00 UTC is an unusual time of day"
    assert told(spec_of(event=["day_of_week"]), 0.0, 1.0, 0.1).text == "Sunday is an unusual day"


def test_a_field_is_told_once_by_what_tells_it_best():
    spec = spec_of({"a": ["diff", "zscore"], "b": ["raw"]}, event=["time_of_day"])
    names = [feature.name for feature in spec.features]
    contribution = np.zeros((ROWS, len(names)))
    contribution[-1, names.index("a.diff")] = 0.3
    contribution[-1, names.index("a.zscore")] = 0.2
    contribution[-1, names.index("b.raw")] = 0.4
    contribution[-1, names.index("time_of_day.cos")] = 0.1
    x = np.zeros((ROWS, len(names)))
    found = contributors(
        batch_of(spec, x), np.array([0]), explained(spec, contribution, x + 3, np.ones(len(names))), spec
    )[0]
    assert [one.feature for one in found] == ["a.zscore", "b.raw", "time_of_day.cos"]
    assert [round(one.share, 6) for one in found] == [0.5, 0.4, 0.1]


@given(st.data())
@settings(max_examples=60)
def test_any_explanation_is_told_and_a_row_is_told_the_same_alone(data):
    spec = spec_of(
        {"a": ["zscore", "log1p", "diff", "rate", "mean", "ew_std:5", "sum:1h", "missing"]},
        {"m": ["novelty", "frequency_overall"]},
        ["gap", "count:1m", "time_of_day", "day_of_week"],
    )
    f = len(spec.features)
    floats = st.floats(width=32, allow_nan=True, allow_infinity=False)
    shares = st.floats(0, 1, width=32) | st.just(math.nan)

    def array(elements, *shape):
        size = math.prod(shape)
        return np.array(data.draw(st.lists(elements, min_size=size, max_size=size))).reshape(shape)

    x, expected = array(floats, ROWS, f), array(floats, 2, ROWS, f)
    contribution, spread = array(shares, 2, ROWS, f), array(st.floats(0, 1e6, width=32), f)
    batch = batch_of(spec, x, array(floats, ROWS, 1), array(floats, 1, 2), cats=[b"\xff\x00x"], events=2)
    together = contributors(
        batch,
        np.array([0, 1]),
        Explanation(*(np.asarray(v, np.float32) for v in (contribution, expected, spread))),
        spec,
    )
    for row in (0, 1):
        alone = Explanation(
            *(np.asarray(v, np.float32) for v in (contribution[row : row + 1], expected[row : row + 1], spread))
        )
        assert repr(contributors(batch, np.array([row]), alone, spec)[0]) == repr(together[row])
    for found in together:
        assert len(found) <= 3
        assert len({one.field or one.kind for one in found}) == len(found)
        assert all(one.text for one in found)
        assert [one.share for one in found] == sorted((one.share for one in found), reverse=True)


def test_words():
    assert [number(v) for v in (812.4, 35, 0, -0.0, 1_240_000, 0.00424, 3.1e12, math.nan)] == [
        "812.40", "35", "0", "0", "1,240,000", "0.00424", "3.1e+12", "–",
    ]  # fmt: skip
    assert number_range(35, 90) == "35–90"
    assert number_range(-3.2, 4.1) == "-3.2 to 4.1"
    assert number_range(5, 5) == "5"
    assert number_range(1000.001, 1000.002) == "1,000.001–1,000.002"
    assert [duration(s) for s in (0, 0.25, 0.003, 40, 210, 7200, 86_400, 345_600)] == [
        "0 s", "0.25 s", "3 ms", "40 s", "3.5 min", "2 h", "1 day", "4 days",
    ]  # fmt: skip


def test_a_value_and_its_range_have_one_unit_and_as_many_digits_as_tell_them_apart():
    assert beside(101, 100 - 2e-10, 100 + 2e-10) == ("101", "100")
    assert beside(1_240_000.4, 1_240_000, 1_240_000) == ("1,240,000.4", "1,240,000.0")
    assert beside(37.898, 25.53, 36.6) == ("37.90", "25.5–36.6")
    assert beside(100.004, 99.99, 100.003) == ("100.004", "99.990–100.003")
    assert beside_seconds(20.007, 20, 20) == ("20.007 s", "20.000 s")
    assert beside_seconds(20.007, 19.9985, 20.0015) == ("20.007 s", "19.9985–20.0015 s")
    assert beside_seconds(75, 48.9, 73.3) == ("75 s", "49–73 s")
    assert beside_seconds(7200, 48.9, 73.3) == ("2 h", "49–73 s")
    assert beside_seconds(720, 5400, 5400) == ("12 min", "1.5 h")


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9), st.floats(0, 1e6))
def test_a_value_outside_its_range_is_written_outside_of_it(observed, low, width):
    high = low + width
    away = max(observed - high, low - observed)
    assume(away > 1e-6 * max(abs(observed), abs(low), abs(high), 1e-3))
    text, ends = beside(observed, low, high)
    numbers = [float(end.replace(",", "")) for end in re.split(r" to |(?<=\d)–", ends)]
    value = float(text.replace(",", ""))
    assert value > numbers[-1] if observed > high else value < numbers[0]


def test_only_what_lies_outside_its_range_is_a_reason():
    spec = spec_of({"a": ["zscore"], "b": ["zscore"], "c": ["zscore"]})
    contribution = np.zeros((ROWS, 3))
    contribution[-1] = 0.4, 0.35, 0.25
    spread, x = np.ones(3), np.zeros((ROWS, 3))

    def fields(newest):
        x[-1] = newest
        explanation = explained(spec, contribution, np.zeros((ROWS, 3)), spread)
        return [one.field for one in contributors(batch_of(spec, x), np.array([0]), explanation, spec)[0]]

    assert fields([1.9, 9.0, 4.0]) == ["b", "c"]
    assert fields([1.9, 1.0, -1.5]) == ["a"], "nothing is outside: what contributes most is told"


def test_what_is_never_negative_has_no_negative_range():
    spec = spec_of({"amount": ["zscore"]})
    assert told(spec, 9.1, 0.0, 1.0, values=[[5], [7], [90]], base=[[6, 8]]).text.startswith("amount 90, expected 0–22")
    assert told(spec, 9.1, 0.0, 1.0, values=[[-5], [7], [90]], base=[[6, 8]]).low == -10
    assert told(spec_of({"level": ["std"]}), 4.0, 0.5, 0.5, values=[[-5], [7], [9]]).low == 0
    assert told(spec_of({"level": ["rate"]}), 4.0, 0.5, 0.5, values=[[5], [7], [9]]).low == -0.5


def test_a_category_cannot_control_a_terminal():
    spec = spec_of(categorical={"merchant": ["novelty"]})
    one = told(spec, 1.0, 0.0, 0.1, cats=["\x1b[2J\x9b1m\u202eX".encode()])
    assert one.text.isprintable()
    assert one.text == r"merchant \x1b[2J\x9b1m\u202eX never seen for this key"
