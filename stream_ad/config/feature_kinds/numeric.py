"""Features of a number, by itself or compared with the key's earlier values."""

from __future__ import annotations

import math

from stream_ad.config.feature_kinds.given import Moments, Value, formula, signed_log1p
from stream_ad.config.feature_kinds.reading import Figure, Indicator, Least, Level, Seen, as_it_is, signed_expm1
from stream_ad.config.feature_kinds.row import FeatureKind, Of, Role, State, Trait

Z_LIMIT = 1e4


@formula
def raw(field: Value) -> float:
    return field.value


@formula
def log1p(field: Value) -> float:
    return signed_log1p(field.value)


@formula
def zscore(field: Moments) -> float:
    """Cut to ±√N after N values in the pool: no one of N + 1 values can deviate by more (Samuelson 1968).

    So the first event of a shard has 0.
    """
    bound = min(Z_LIMIT, math.sqrt(field.pool_values))
    return min(max((field.value - field.mean) / field.deviation, -bound), bound) if bound > 0 else 0.0


@formula
def diff(field: Moments) -> float:
    return field.value - field.previous if field.values > 0 else math.nan


@formula
def rate(field: Moments) -> float:
    seconds = (field.ts_ms - field.previous_ms) / 1000.0
    return diff(field) / seconds if seconds > 0 else math.nan


@formula
def missing(field: Value) -> float:
    return 1.0 if math.isnan(field.value) else 0.0


def from_standard(x: float, seen: Seen) -> float:
    # `seen` has the mean of the newest event; it moves slowly, so it stands for older lags too
    return seen.mean + x * seen.deviation


def from_logarithm(x: float, seen: Seen) -> float:
    return signed_expm1(from_standard(x, seen), seen)


def from_previous(x: float, seen: Seen) -> float:
    # value less its change is the previous value, even where the window no longer holds that
    return seen.value + (x - seen.x) if math.isfinite(seen.value) else x


def presence(missing: bool, seen: Seen) -> str | None:
    return None if missing else "present"


RAW = FeatureKind(
    name="raw",
    of=Of.NUMBER,
    state=State.VALUE,
    formula=raw,
    reading=Level(as_it_is),
    role=Role.MEASURE,
    about="the value",
    suits=frozenset({Trait.SWITCH}),
    rank=2,
)
LOG1P = FeatureKind(
    name="log1p",
    of=Of.NUMBER,
    state=State.VALUE,
    formula=log1p,
    reading=Level(signed_expm1),
    role=Role.MEASURE,
    about="sign(v)·log1p(|v|) of the value",
    rank=4,
)
ZSCORE = FeatureKind(
    name="zscore",
    of=Of.NUMBER,
    state=State.MOMENTS,
    formula=zscore,
    reading=Level(from_standard),
    role=Role.STANDARD,
    about="standard deviations from the mean expected of the key before the event, at most 10,000",
    suits=frozenset({Trait.PLAIN, Trait.SMOOTH}),
    rank=1,
)
ZSCORE_LOG = FeatureKind(
    name="zscore_log",
    of=Of.NUMBER,
    state=State.LOGARITHM,
    formula=zscore,
    reading=Level(from_logarithm),
    role=Role.STANDARD,
    about="zscore of sign(v)·log1p(|v|) of the value: for sizes and amounts, of which some are many times the others",
    suits=frozenset({Trait.LONG_TAIL}),
    rank=1,
)
ZSCORE_OVERALL = FeatureKind(
    name="zscore_overall",
    of=Of.NUMBER,
    state=State.OVERALL,
    formula=zscore,
    reading=Level(from_standard, "{field} (all keys)"),
    role=Role.STANDARD,
    about="zscore by the mean and deviation of all keys: a key that has known nothing else still stands out",
    rank=3,
)
ZSCORE_DIFF = FeatureKind(
    name="zscore_diff",
    of=Of.NUMBER,
    state=State.CHANGE,
    formula=zscore,
    reading=Figure("change of {field}", from_standard, least=Least.NONE),
    role=Role.STANDARD,
    about="zscore of the value less the key's previous one; NaN at first",
    rank=5,
)
ZSCORE_STD = FeatureKind(
    name="zscore_std",
    of=Of.NUMBER,
    state=State.SPREAD,
    formula=zscore,
    reading=Figure("spread of {field}", from_standard, least=Least.ZERO),
    role=Role.STANDARD,
    about="zscore of the standard deviation of the values in the window; NaN below four",
    rank=6,
)
ZSCORE_DAILY = FeatureKind(
    name="zscore_daily",
    of=Of.NUMBER,
    state=State.DAILY,
    formula=zscore,
    reading=Level(from_standard, "{field} at this time of day"),
    role=Role.STANDARD,
    about="zscore of what remains beside the key's usual value for the hour of the day, UTC",
    suits=frozenset({Trait.DAYS}),
    rank=9,
)
ZSCORE_WEEKLY = FeatureKind(
    name="zscore_weekly",
    of=Of.NUMBER,
    state=State.WEEKLY,
    formula=zscore,
    reading=Level(from_standard, "{field} at this time of the week"),
    role=Role.STANDARD,
    about="the same for the hour of the week; weeks begin on Monday",
    suits=frozenset({Trait.DAYS}),
    rank=10,
)
DIFF = FeatureKind(
    name="diff",
    of=Of.NUMBER,
    state=State.MOMENTS,
    formula=diff,
    reading=Level(from_previous),
    role=Role.MEASURE,
    about="the value less the key's previous one; NaN at first",
    suits=frozenset({Trait.COUNTER}),
    rank=7,
)
RATE = FeatureKind(
    name="rate",
    of=Of.NUMBER,
    state=State.MOMENTS,
    formula=rate,
    reading=Figure("change of {field} per second", as_it_is, least=Least.NONE),
    role=Role.MEASURE,
    about="diff per second of event time; NaN where time did not advance",
    rank=8,
)
MISSING = FeatureKind(
    name="missing",
    of=Of.NUMBER,
    state=State.VALUE,
    formula=missing,
    reading=Indicator("{field} is missing", "{field} is present, usually missing", ("missing", "present"), presence),
    role=Role.INDICATOR,
    about="1 where the value is missing, else 0",
    suits=frozenset({Trait.GAPS}),
    rank=0,
)
