"""What a formula is given: the event, and what the featuriser keeps of its key, field by field.

A formula is plain Python over one of these, `math` and other formulas. The featuriser compiles it into its loop;
nothing here needs the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

from stream_ad.batch import F64

VALUE_LIMIT = 1e100  # values beyond are taken as this: their squares stay finite
FORMULAS: list[Callable[..., Any]] = []
F = TypeVar("F", bound=Callable[..., Any])


def formula(function: F) -> F:
    """Marks what the featuriser compiles: the formula of a kind, and every function that it calls."""
    FORMULAS.append(function)
    return function


class Event(NamedTuple):
    """The event itself; `events` and `latest_ms` are the key's, before it."""

    ts_ms: int
    events: int
    latest_ms: int  # the latest event time, not that of the newest offset


class Value(NamedTuple):
    value: float  # within ±`VALUE_LIMIT`; NaN = missing


class Category(NamedTuple):
    missing: bool


class Moments(NamedTuple):
    """A value and what its key's values were before it; where the value is missing, the feature is NaN unasked.

    `mean` and `deviation` are those of `stream_ad.fold.features.moments.expected`; NaN before the shard's first.
    """

    value: float
    ts_ms: int
    values: float  # of the key's field, before
    previous: float
    previous_ms: float
    mean: float
    deviation: float
    pool_values: float  # of the field, of all keys


Window: TypeAlias = F64  # [w]  oldest first, the event's last; within ±`VALUE_LIMIT`; NaN = missing, or not there yet


class Tracker(NamedTuple):
    """Exponentially weighted with the half-life of the parameter; before the first, the feature is NaN unasked."""

    mean: float
    variance: float


class Span(NamedTuple):
    total: float  # of the field, or of events, over the parameter's length of the key's event time


class Counts(NamedTuple):
    """What came before a category; where the category is missing, the feature is NaN unasked."""

    times: float  # it was seen; estimated, never too low
    values: float  # categories of the field that were seen


@formula
def within_limit(value: float) -> float:
    if value > VALUE_LIMIT:
        return VALUE_LIMIT
    return -VALUE_LIMIT if value < -VALUE_LIMIT else value


@formula
def signed_log1p(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)
