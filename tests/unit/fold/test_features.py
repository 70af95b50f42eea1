"""The featuriser against river and plain Python, statistic by statistic."""

import math
import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from river import stats, utils

from stream_ad.config import parse
from stream_ad.config.features import Feature, FeatureSpec
from stream_ad.config.rules import Rules
from stream_ad.errors import ConfigError
from stream_ad.fold.features.moments import FAR, student
from tests.support.batches import Row
from tests.support.featured import START, column, featured, spec_of
from tests.support.strategies import streams


def normal(size: int, keys: int = 3, mean: float = 5.0, seed: int = 0, gap_ms: int = 700) -> list[Row]:
    rng = np.random.default_rng(seed)
    numbers, names = rng.normal(mean, 2.0, size), rng.integers(0, keys, size)
    return [
        (f"k{name}", START + i * gap_ms, [float(v)]) for i, (name, v) in enumerate(zip(names, numbers, strict=True))
    ]


NUMERIC = ["raw", "log1p", "diff", "rate", "mean", "std", "min", "max", "ew_mean:1", "ew_std:1", "missing"]
MODERATE = st.one_of(st.floats(-1e3, 1e3, width=32), st.just(float("nan")))


@settings(max_examples=60)
@given(streams(d=1, c=0, numbers=MODERATE), st.sampled_from([1, 3, 8]))
def test_agrees_with_river_event_by_event(rows: list[Row], w: int) -> None:
    spec = spec_of(w, event=["gap"], numeric={"v": NUMERIC})
    batch = featured(rows, spec)
    # with a half-life of one row the decay is 1/2 and the warm-up weight 1/k never exceeds it after the first
    ew_mean, ew_var = defaultdict(lambda: stats.EWMean(0.5)), defaultdict(lambda: stats.EWVar(0.5))
    held: dict[str, list[float]] = defaultdict(list)
    before: dict[str, tuple[float, int]] = {}
    latest: dict[str, int] = {}
    for i, (key, ts, (v,), *_) in enumerate(rows):
        assert v is not None
        present = not math.isnan(v)
        expected = {"v.raw": v, "v.missing": float(not present), "v.log1p": math.copysign(math.log1p(abs(v)), v)}
        expected["gap"] = math.log1p(max(ts - latest[key], 0) / 1000) if key in latest else math.nan
        latest[key] = max(ts, latest.get(key, ts))
        expected["v.diff"] = v - before[key][0] if key in before else math.nan
        advanced = key in before and ts > before[key][1]
        expected["v.rate"] = (v - before[key][0]) / (ts - before[key][1]) * 1000 if advanced else math.nan
        if present:
            before[key] = (v, ts)
            ew_mean[key].update(v)
            ew_var[key].update(v)
        if key in before:
            expected["v.ew_mean.1"] = ew_mean[key].get()
            expected["v.ew_std.1"] = math.sqrt(max(ew_var[key].get(), 0.0))
        held[key].append(v)
        window = [value for value in held[key][-w:] if not math.isnan(value)]
        mean, var = utils.Rolling(stats.Mean, window_size=w), utils.Rolling(stats.Var, window_size=w, ddof=0)
        low, high = stats.RollingMin(w), stats.RollingMax(w)
        for value in window:
            for statistic in (mean, var, low, high):
                statistic.update(value)
        if window:
            expected |= {"v.mean": mean.get(), "v.min": low.get(), "v.max": high.get()}
            expected["v.std"] = math.sqrt(max(var.get(), 0.0))
        for j, feature in enumerate(spec.features):
            wanted = expected.get(feature.name, math.nan)
            # river's EWVar is a difference of squares: about 1e-8 of the level is noise
            close = {"rtol": 1e-5, "atol": 1e-2 if "ew_std" in feature.name else 1e-4}
            np.testing.assert_allclose(batch.x[i, -1, j], wanted, **close, err_msg=feature.name)


def test_a_long_half_life_gives_rivers_plain_mean_and_deviation() -> None:
    rows = normal(300, keys=2)
    spec = spec_of(numeric={"v": ["ew_mean:1000000", "ew_std:1000000"]})
    batch = featured(rows, spec)
    mean: dict[str, stats.Mean] = defaultdict(stats.Mean)
    var: dict[str, stats.Var] = defaultdict(lambda: stats.Var(ddof=0))
    for i, (key, _, (v,)) in enumerate(rows):
        mean[key].update(v)
        var[key].update(v)
        np.testing.assert_allclose(batch.x[i, -1], [mean[key].get(), math.sqrt(var[key].get())], rtol=1e-5, atol=1e-6)


@given(streams(d=1, c=0, numbers=MODERATE))
def test_zscore_log_is_the_zscore_of_the_logarithm(rows: list[Row]) -> None:
    def logarithm(value: float | None) -> float:
        return math.nan if value is None else math.copysign(math.log1p(abs(value)), value)

    of_values, of_logarithms = spec_of(numeric={"v": ["zscore_log"]}), spec_of(numeric={"v": ["zscore"]})
    logarithms: list[Row] = [(row[0], row[1], [logarithm(row[2][0])]) for row in rows]
    own = column(featured(rows, of_values), of_values, "v.zscore_log")
    assert own.tobytes() == column(featured(logarithms, of_logarithms), of_logarithms, "v.zscore").tobytes()


def test_zscore_without_prior_is_the_deviation_from_the_keys_own_past() -> None:
    rows = [(key, ts, [min(max(v, 1.0), 9.0)]) for key, ts, (v,) in normal(400, keys=2)]  # nothing beyond the gate
    spec = spec_of(numeric={"v": ["zscore"]}, half_life_rows=1e6, prior_rows=1e-9)
    batch = featured(rows, spec)
    mean: dict[str, stats.Mean] = defaultdict(stats.Mean)
    var: dict[str, stats.Var] = defaultdict(lambda: stats.Var(ddof=0))
    for i, (key, _, (v,)) in enumerate(rows):
        if mean[key].n >= 5:
            m, s = mean[key].get(), math.sqrt(var[key].get())
            seen_mean, seen = batch.base[i, 0]
            assert seen_mean == pytest.approx(m, rel=1e-6)
            assert s * (1 - 1e-6) <= seen <= s * student(mean[key].n) * (1 + 1e-6)  # the other key is worth something
            np.testing.assert_allclose(batch.x[i, -1, 0], (v - m) / seen, rtol=1e-5, atol=1e-6)
        mean[key].update(v)
        var[key].update(v)


@pytest.mark.parametrize("degrees", [1, 2, 5, 8, 20, 100, 999, 1000])
def test_a_deviation_of_few_degrees_of_freedom_is_as_wide_as_a_students(degrees: int) -> None:
    exact = float(scipy.stats.t.isf(scipy.stats.norm.sf(FAR), degrees)) / FAR
    assert student(degrees) >= 0.99 * exact
    if degrees >= 8:
        assert student(degrees) == pytest.approx(exact, rel=0.02)


def test_keys_of_other_scales_say_nothing_of_a_key() -> None:
    """One field with eleven powers of ten, of which each key has one: each is judged by itself."""
    rng = np.random.default_rng(3)
    rows: list[Row] = [(f"k{i % 12}", START + i, [10.0 ** (i % 12 - 3) * (5.0 + rng.normal())]) for i in range(12_000)]
    batch = featured(rows, spec_of(numeric={"v": ["zscore"]}))
    late = batch.x[6000:, -1, 0].reshape(-1, 12)
    np.testing.assert_allclose(late.std(axis=0), 1.0, atol=0.15)
    np.testing.assert_allclose(batch.base[-12:, 0, 1], 10.0 ** (np.arange(12) - 3), rtol=0.2)


def test_keys_of_one_scale_vouch_for_each_other() -> None:
    """A key of few values has the deviation that the others have, however few it has seen so far."""
    rows: list[Row] = [*normal(6000, keys=6), *(("new", START, [value]) for value in (5.0, 5.01, 4.99, 5.0, 13.0))]
    batch = featured(rows, spec_of(numeric={"v": ["zscore"]}))
    assert batch.base[-1, 0, 1] == pytest.approx(2.0, rel=0.3)
    assert 4.0 < batch.x[-1, -1, 0] < 6.0


def test_the_first_event_has_no_expectation_and_no_deviation() -> None:
    batch = featured([("a", START, [7.0]), ("a", START, [8.0])], spec_of(numeric={"v": ["zscore"]}))
    assert np.isnan(batch.base[0]).all()
    assert batch.x[0, -1, 0] == 0
    assert batch.base[1, 0, 0] == 7.0
    assert batch.x[1, -1, 0] == 1  # nothing deviates more from a single value


def test_a_new_key_is_judged_by_the_pool_and_a_known_one_by_itself() -> None:
    rows = normal(2000, keys=50, mean=10.0)
    rows += [("new", START, [10.0]), ("new", START, [40.0])]
    rows += [("high", START, [1000.0 + math.sin(i)]) for i in range(1500)]
    rows += [("high", START, [1010.0])]
    batch = featured(rows, spec_of(numeric={"v": ["zscore"]}), capacity=64)
    z = batch.x[:, -1, 0]
    assert abs(z[2000]) < 1
    assert 10 < z[2001] < 20
    np.testing.assert_allclose(batch.base[-1, 0], [1000.0, math.sqrt(0.5)], rtol=0.05)
    assert z[-1] > 10


def test_the_pool_says_little_about_level_where_keys_differ_in_it() -> None:
    rng = np.random.default_rng(2)
    spec = spec_of(numeric={"v": ["zscore"]})
    apart: list[Row] = [(f"k{i % 20}", START, [100.0 * (i % 20) + rng.normal()]) for i in range(2000)]
    apart += [("new", START, [v]) for v in (5000.0, 5001.0, 5030.0)]
    batch = featured(apart, spec, capacity=32)
    assert batch.base[-1, 0, 0] == pytest.approx(5000.5, abs=0.5)
    assert 0.5 < batch.base[-1, 0, 1] < 2
    alike: list[Row] = [(f"k{i % 20}", START, [10.0 + rng.normal()]) for i in range(2000)]
    alike += [("new", START, [12.0]), ("new", START, [10.0])]
    # one value of its own against a prior worth eight
    assert featured(alike, spec, capacity=32).base[-1, 0, 0] == pytest.approx((12 + 8 * 10) / 9, abs=0.1)


def test_an_outlier_does_not_poison_and_a_lasting_shift_becomes_normal() -> None:
    rows = normal(1000, keys=1)
    rows += [("k0", START, [1e9])]
    rows += [("k0", START, [v + 5000.0]) for _, _, (v,) in normal(600, keys=1, seed=1)]
    batch = featured(rows, spec_of(numeric={"v": ["zscore"]}))
    s = batch.base[:, 0, 1]
    assert batch.x[1000, -1, 0] > 30
    assert s[1001] < 1.3 * s[1000]
    assert batch.x[1001, -1, 0] > 30
    assert abs(batch.x[-1, -1, 0]) < 2


@pytest.mark.parametrize("far", [10.0, 1e6])
def test_a_stretch_of_anomalies_does_not_become_the_baseline(far: float) -> None:
    """As long as a quarter of a half-life, in a key that is known."""
    rows = normal(10_000, keys=1)
    rows += [("k0", START, [v + far]) for _, _, (v,) in normal(250, keys=1, seed=1)]
    rows += normal(100, keys=1, seed=2)
    batch = featured(rows, spec_of(numeric={"v": ["zscore"]}, half_life_rows=1000))
    before, after = batch.base[10_000, 0], batch.base[-1, 0]
    assert (batch.x[10_000:10_250, -1, 0] > 1).all()
    assert np.median(batch.x[10_000:10_250, -1, 0]) > 4
    assert after[0] == pytest.approx(before[0], abs=0.3)
    assert after[1] == pytest.approx(before[1], rel=0.1)


@pytest.mark.parametrize("half_life_rows", [100, 1000])
@pytest.mark.parametrize("far", [10.0, 1e6])
def test_a_lasting_shift_is_learnt_within_two_half_lives(half_life_rows: int, far: float) -> None:
    rows = normal(50 * half_life_rows, keys=1)
    rows += [("k0", START, [v + far]) for _, _, (v,) in normal(2 * half_life_rows, keys=1, seed=1)]
    batch = featured(rows, spec_of(numeric={"v": ["zscore"]}, half_life_rows=half_life_rows))
    assert batch.x[-2 * half_life_rows, -1, 0] > 3
    assert (np.abs(batch.x[-half_life_rows // 4 :, -1, 0]) < 3).mean() > 0.9


@pytest.mark.parametrize("share", [0.08, 0.2])
def test_a_second_level_that_is_no_exception_is_learnt(share: float) -> None:
    high = np.random.default_rng(0).random(5000) < share
    rows: list[Row] = [("a", START, [100.0 * h]) for h in high]
    batch = featured(rows, spec_of(numeric={"v": ["zscore"]}, half_life_rows=1000))
    assert batch.base[-1, 0, 1] == pytest.approx(100 * math.sqrt(share * (1 - share)), rel=0.2)


@pytest.mark.parametrize("value", [0.0, 7.0, 1e9])
def test_a_constant_series_stays_at_zero_and_a_jump_is_bounded(value: float) -> None:
    rows: list[Row] = [("a", START + i, [value]) for i in range(500)]
    batch = featured([*rows, ("a", START, [value + 1e6])], spec_of(numeric={"v": ["zscore"]}))
    assert not batch.x[:500, -1, 0].any()
    assert 10 < batch.x[500, -1, 0] < 1e4


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([1e9, -1e9, 123_456_789.0]))
def test_offsets_of_a_milliard_change_nothing(seed: int, offset: float) -> None:
    # multiples of 1/64 stay exact at the offset, so every difference is the statistics' own
    rows = [(key, ts, [round(v * 64) / 64]) for key, ts, (v,) in normal(300, seed=seed)]
    lifted = [(key, ts, [v + offset]) for key, ts, (v,) in rows]
    spec = spec_of(8, numeric={"v": ["zscore", "std", "ew_std:20", "diff", "rate"]})
    plain, far = featured(rows, spec), featured(lifted, spec)
    np.testing.assert_allclose(far.x, plain.x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(far.base[:, 0, 0] - offset, plain.base[:, 0, 0], atol=1e-4)


@settings(max_examples=60)
@given(streams(d=1, c=0, numbers=MODERATE), st.sampled_from([160, 1_000, 16_000, 7_777]))
def test_spans_agree_with_a_list_of_all_events(rows: list[Row], span_ms: int) -> None:
    spec = spec_of(event=[f"count:{span_ms}ms"], numeric={"v": [f"sum:{span_ms}ms"]})
    batch = featured(rows, spec)
    past: dict[str, list[tuple[int, float]]] = defaultdict(list)
    newest: dict[str, int] = {}
    for i, (key, ts, (v,), *_) in enumerate(rows):
        assert v is not None
        bucket = ts * 16 // span_ms
        newest[key] = max(newest.get(key, bucket), bucket)
        entry = (bucket, 0.0 if math.isnan(v) else v)
        if bucket > newest[key] - 16:
            past[key].append(entry)
        held = [past_entry for past_entry in past[key] if newest[key] - 16 < past_entry[0] <= bucket] or [entry]
        total = math.fsum(amount for _, amount in held)
        np.testing.assert_allclose(batch.x[i, -1, 0], math.log1p(len(held)), rtol=1e-6)
        np.testing.assert_allclose(
            batch.x[i, -1, 1], math.copysign(math.log1p(abs(total)), total), rtol=1e-5, atol=1e-5
        )


def test_a_span_covers_its_length_less_at_most_a_sixteenth() -> None:
    rows: list[Row] = [("a", START + i * 1000, [1.0]) for i in range(500)]
    batch = featured(rows, spec_of(event=["count:2m"], numeric={}))
    counts = np.expm1(batch.x[200:, -1, 0])
    assert counts.min() >= 120 * 15 / 16 - 1
    assert counts.max() < 120.5


@pytest.mark.parametrize("text", ["2024-01-01T00:00", "2024-02-29T06:00", "1969-07-20T20:17", "2026-05-31T23:59"])
def test_time_of_day_and_week_are_those_of_the_calendar(text: str) -> None:
    when = datetime.fromisoformat(text).replace(tzinfo=UTC)
    spec = spec_of(event=["time_of_day", "day_of_week"])
    row: Row = ("a", int(when.timestamp() * 1000), [])
    day = (when.hour * 60 + when.minute) / 1440
    turns = [day, (when.weekday() + day) / 7]
    expected = [part(2 * math.pi * turn) for turn in turns for part in (math.sin, math.cos)]
    np.testing.assert_allclose(featured([row], spec).x[0, -1], expected, atol=1e-6)


CATEGORICAL = ["novelty", "frequency", "novelty_overall", "frequency_overall", "missing"]


def test_novelty_and_frequency_count_what_came_before() -> None:
    rng = np.random.default_rng(3)
    rows: list[Row] = [
        (f"k{rng.integers(3)}", START, [], [str(rng.choice(["", "x", "y", "z"], p=[0.1, 0.6, 0.2, 0.1]))])
        for _ in range(300)
    ]
    batch = featured(rows, spec_of(categorical={"c": CATEGORICAL}))
    past: dict[str, list[str]] = defaultdict(list)
    for i, (key, _, _, (cat,)) in enumerate(rows):  # type: ignore[misc]
        if not cat:
            np.testing.assert_array_equal(batch.x[i, -1], [math.nan] * 4 + [1.0])
            continue
        expected = []
        for scope in (key, ""):
            times = past[scope].count(cat)
            expected += [float(times == 0), math.log((times + 0.5) / (len(past[scope]) + 1))]
            past[scope].append(cat)
        np.testing.assert_allclose(batch.x[i, -1], [*expected, 0.0], rtol=1e-5)


def test_what_was_seen_is_never_new_however_many_there_are() -> None:
    names = [f"merchant-{i}" for i in range(500)]
    rows: list[Row] = [("a", START, [], [name]) for name in names + names]
    x = featured(rows, spec_of(categorical={"c": CATEGORICAL})).x[:, -1]
    assert not x[500:, [0, 2]].any()
    assert x[:500, 2].mean() > 0.99  # 65,536 counters: hardly a collision


def test_full_counters_are_halved_and_forget_no_category() -> None:
    rows: list[Row] = [("a", START, [], ["rare"])] + [("a", START, [], ["x"])] * 70_000 + [("a", START, [], ["rare"])]
    x = featured(rows, spec_of(1, categorical={"c": ["novelty", "frequency"]})).x[:, -1]
    assert x[-1, 0] == 0
    np.testing.assert_allclose(x[-2], [0.0, 0.0], atol=1e-3)
    assert x[-1, 1] < -9


@settings(max_examples=40)
@given(streams(), st.sampled_from([None, "3s"]), st.integers(1, 3))
def test_lags_hold_the_features_they_had_unless_they_left_the_window(
    rows: list[Row], span: str | None, hop: int
) -> None:
    spec = spec_of(event=["gap"], numeric={"a": ["raw", "zscore"], "b": ["diff"]}, categorical={"c": ["frequency"]})
    every, batch = featured(rows, spec), featured(rows, spec, span, hop)
    emitted = {key: [i for i, row in enumerate(rows) if row[0] == key][::hop] for key, *_ in rows}
    assert sorted(i for mine in emitted.values() for i in mine) == batch.row.tolist()
    for out, i in enumerate(batch.row):
        mine = [at for at in range(i + 1) if rows[at][0] == rows[i][0]]
        for lag in range(spec.rows):
            there = lag < len(mine) and (span is None or rows[i][1] - rows[mine[-1 - lag]][1] < 3_000)
            wanted = every.x[mine[-1 - lag], -1] if there else np.full(len(spec.features), np.nan)
            np.testing.assert_array_equal(batch.x[out, -1 - lag], wanted)
        np.testing.assert_array_equal(batch.base[out], every.base[i])


RULED = ["zscore", "zscore_log", "zscore_overall", "zscore_diff", "raw", "mean", "max"]


@settings(max_examples=40)
@given(
    streams(d=1, c=0, numbers=MODERATE),
    st.sampled_from(["up", "down"]),
    st.sampled_from([0.0, 3.0, 200.0]),
    st.sampled_from([0.0, 0.5]),
)
def test_a_rule_lets_count_what_deviates_its_way_and_far_enough_and_changes_nothing_else(
    rows: list[Row], direction: str, least: float, share: float
) -> None:
    spec = spec_of(4, numeric={"v": RULED})
    free = featured(rows, spec)
    ruled = featured(rows, spec, rules=Rules(direction={"v": direction}, least={"v": least}, least_share={"v": share}))
    assert np.array_equal(free.base, ruled.base, equal_nan=True)  # what is learnt is the same
    mean = free.base[:, 0, 0]
    room = np.fmax(least, share * np.abs(mean))
    way = 1 if direction == "up" else -1
    value = column(free, spec, "v.raw").astype(np.float64)
    for name in ("zscore", "zscore_log", "zscore_overall"):
        level = free.base[:, spec.expected.index((spec.kind_of(named(spec, f"v.{name}")).state, 0)), 0]
        level = np.copysign(np.expm1(np.abs(level)), level) if name == "zscore_log" else level
        z, without, deviation = column(ruled, spec, f"v.{name}"), column(free, spec, f"v.{name}"), value - level
        near = 1e-5 * (np.abs(value) + np.abs(level) + 1)
        counts = (deviation * way > near) & (np.abs(deviation) > room + near)
        none = (deviation * way < -near) | (np.abs(deviation) < room - near)
        assert np.array_equal(z[counts], without[counts])
        assert (z[none] == 0).all()
    change = column(ruled, spec, "v.zscore_diff")
    assert (change[~np.isnan(change)] * way >= 0).all()
    raw = column(ruled, spec, "v.raw")
    known = np.isfinite(mean) & np.isfinite(value)
    least_of_way = np.minimum if direction == "down" else np.maximum
    assert (raw[known] == least_of_way(raw[known], mean[known].astype(np.float32))).all()


def named(spec: FeatureSpec, name: str) -> Feature:
    return next(feature for feature in spec.features if feature.name == name)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"direction": {"w": "up"}}, "rules.direction.w: no such field under [features.numeric]; there are: v, s"),
        ({"least": {"s": 1.0}}, "rules.least.s: s.sum.1h is made of many values"),
        ({"least_share": {"s": 1.0}}, "rules.least_share.s: s.sum.1h is made of many values"),
    ],
)
def test_a_rule_that_could_not_be_kept_names_its_key(rules: dict[str, Any], told: str) -> None:
    features = {"event": [], "numeric": {"v": ["zscore"], "s": ["zscore", "sum:1h"]}}
    with pytest.raises(ConfigError, match=re.escape(told)):
        FeatureSpec.of(parse({"features": features, "rules": rules}))
