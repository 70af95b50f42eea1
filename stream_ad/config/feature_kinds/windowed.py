"""Features of several values of a number: in the window, exponentially weighted, or in a span of time."""

from __future__ import annotations

import math

from stream_ad.config.feature_kinds.given import Span, Tracker, Window, formula, signed_log1p
from stream_ad.config.feature_kinds.reading import Figure, Least, as_it_is, signed_expm1
from stream_ad.config.feature_kinds.row import FeatureKind, Of, Parameter, Role, State


@formula
def mean(window: Window) -> float:
    """Computed relative to the first value, so that a level far from zero costs no digits."""
    n, first, moment = 0, math.nan, 0.0
    for value in window:
        if value == value:
            if n == 0:
                first = value
            n += 1
            moment += value - first
    return first + moment / n if n > 0 else math.nan


@formula
def deviation(window: Window) -> float:
    """Of the population, in two passes about the mean (Chan, Golub & LeVeque 1983)."""
    n, centre, moment, square = 0, mean(window), 0.0, 0.0
    for value in window:
        if value == value:
            n += 1
            moment += value - centre
            square += (value - centre) * (value - centre)
    return math.sqrt(max(square - moment * moment / n, 0.0) / n) if n > 0 else math.nan


@formula
def lowest(window: Window) -> float:
    low = math.nan
    for value in window:
        if value == value and not low <= value:
            low = value
    return low


@formula
def highest(window: Window) -> float:
    high = math.nan
    for value in window:
        if value == value and not high >= value:
            high = value
    return high


@formula
def weighted_mean(tracker: Tracker) -> float:
    return tracker.mean


@formula
def weighted_deviation(tracker: Tracker) -> float:
    return math.sqrt(tracker.variance)


@formula
def total(span: Span) -> float:
    return signed_log1p(span.total)


MEAN = FeatureKind(
    name="mean",
    of=Of.NUMBER,
    state=State.WINDOW,
    formula=mean,
    reading=Figure("mean of {field}", as_it_is),
    role=Role.CONTEXT,
    about="mean of the values in the window, the event's included",
)
STD = FeatureKind(
    name="std",
    of=Of.NUMBER,
    state=State.WINDOW,
    formula=deviation,
    reading=Figure("spread of {field}", as_it_is, least=Least.ZERO),
    role=Role.CONTEXT,
    about="standard deviation of the values in the window, of the population",
)
MIN = FeatureKind(
    name="min",
    of=Of.NUMBER,
    state=State.WINDOW,
    formula=lowest,
    reading=Figure("lowest {field}", as_it_is),
    role=Role.CONTEXT,
    about="lowest of the values in the window",
)
MAX = FeatureKind(
    name="max",
    of=Of.NUMBER,
    state=State.WINDOW,
    formula=highest,
    reading=Figure("highest {field}", as_it_is),
    role=Role.CONTEXT,
    about="highest of the values in the window",
)
EW_MEAN = FeatureKind(
    name="ew_mean",
    of=Of.NUMBER,
    parameter=Parameter.ROWS,
    state=State.TRACKER,
    formula=weighted_mean,
    reading=Figure("recent mean of {field}", as_it_is),
    role=Role.CONTEXT,
    about="exponentially weighted mean of the key's values, the event's included; a missing value repeats the last",
)
EW_STD = FeatureKind(
    name="ew_std",
    of=Of.NUMBER,
    parameter=Parameter.ROWS,
    state=State.TRACKER,
    formula=weighted_deviation,
    reading=Figure("recent spread of {field}", as_it_is, least=Least.ZERO),
    role=Role.CONTEXT,
    about="standard deviation weighted as ew_mean",
)
SUM = FeatureKind(
    name="sum",
    of=Of.NUMBER,
    parameter=Parameter.SPAN,
    state=State.SPAN,
    formula=total,
    reading=Figure("sum of {field} in {parameter}", signed_expm1),
    role=Role.MEASURE,
    about="sign(s)·log1p(|s|) of the sum s of the key's values in the last SPAN",
    rank=4,
)
