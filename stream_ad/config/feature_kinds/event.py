"""Features of the event itself."""

from __future__ import annotations

import math

from stream_ad.config.feature_kinds.given import Event, Joint, Span, formula, signed_log1p
from stream_ad.config.feature_kinds.reading import Figure, Least, Moment, Unit, as_it_is, positive_expm1
from stream_ad.config.feature_kinds.row import FeatureKind, Of, Parameter, Role, State, Trait

DAY_MS = 86_400_000
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TO_MONDAY_MS = 3 * DAY_MS  # 1970 began on a Thursday


@formula
def gap(event: Event) -> float:
    if event.events == 0:
        return math.nan
    return math.log1p(event.gap_ms / 1000.0)


@formula
def count(span: Span) -> float:
    return signed_log1p(span.total)


@formula
def joint(fields: Joint) -> float:
    return fields.distance


@formula
def angle(ts_ms: int, period_ms: int) -> float:
    return 2.0 * math.pi * (ts_ms % period_ms) / period_ms


@formula
def time_of_day(event: Event) -> float:
    return angle(event.ts_ms, DAY_MS)


@formula
def day_of_week(event: Event) -> float:
    return angle(event.ts_ms + TO_MONDAY_MS, 7 * DAY_MS)


def clock(ts_ms: int) -> str:
    minutes = ts_ms % DAY_MS // 60_000
    return f"{minutes // 60:02d}:{minutes % 60:02d} UTC"


def weekday(ts_ms: int) -> str:
    return DAYS[(ts_ms + TO_MONDAY_MS) // DAY_MS % 7]


GAP = FeatureKind(
    name="gap",
    of=Of.EVENT,
    state=State.EVENT,
    formula=gap,
    reading=Figure("time since the previous event", positive_expm1, Unit.SECONDS, Least.ZERO),
    role=Role.MEASURE,
    about="log1p of the seconds since the key's latest event, without pauses of the whole feed; NaN at first",
    suits=frozenset({Trait.TIMED}),
)
COUNT = FeatureKind(
    name="count",
    of=Of.EVENT,
    parameter=Parameter.SPAN,
    state=State.SPAN,
    formula=count,
    reading=Figure("events in {parameter}", positive_expm1, Unit.NONE, Least.ZERO),
    role=Role.MEASURE,
    about="log1p of the key's events in the last SPAN, this one included",
    suits=frozenset({Trait.IRREGULAR}),
)
JOINT = FeatureKind(
    name="joint",
    of=Of.EVENT,
    state=State.JOINT,
    formula=joint,
    reading=Figure("distance of all fields from how they go together", as_it_is, Unit.NONE, Least.ZERO),
    role=Role.JOINT,
    about="Mahalanobis' distance of the deviations of all numeric fields, per field: 1 is usual; needs two fields",
)
TIME_OF_DAY = FeatureKind(
    name="time_of_day",
    of=Of.EVENT,
    state=State.EVENT,
    formula=time_of_day,
    cyclic=True,
    reading=Moment("{moment} is an unusual time of day", clock),
    role=Role.CONTEXT,
    about="sine and cosine of the time of day, UTC",
    suits=frozenset({Trait.DAYS}),
)
DAY_OF_WEEK = FeatureKind(
    name="day_of_week",
    of=Of.EVENT,
    state=State.EVENT,
    formula=day_of_week,
    cyclic=True,
    reading=Moment("{moment} is an unusual day", weekday),
    role=Role.CONTEXT,
    about="sine and cosine of the time of the week, UTC; weeks begin on Monday",
    suits=frozenset({Trait.DAYS}),
)
