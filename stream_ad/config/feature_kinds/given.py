"""The arguments of formulas: the event, and the states that the featuriser keeps of its key.

A formula is plain Python over one of these, `math` and other formulas. The featuriser compiles it into its loop;
nothing here needs the compiler.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

from stream_ad.batch import F64

VALUE_LIMIT = 1e100  # larger values are cut to this, so that their squares stay finite
FORMULAS: list[Callable[..., Any]] = []
F = TypeVar("F", bound=Callable[..., Any])


def formula(function: F) -> F:
    """Marks what the featuriser compiles: the formula of a kind, and every function that it calls."""
    FORMULAS.append(function)
    return function


class Event(NamedTuple):
    """The event itself; `events` are the key's before it."""

    ts_ms: int
    events: int
    gap_ms: int  # since the key's latest event time, without pauses of the whole feed; 0 where time ran backwards


class Value(NamedTuple):
    value: float  # within ±`VALUE_LIMIT`; NaN = missing


class Category(NamedTuple):
    missing: bool


class Moments(NamedTuple):
    """A value, and the moments of its key's values before it. Where the value is missing, the feature is NaN and the
    formula is not called.

    The value is the field's; with `State.LOGARITHM` it is `signed_log1p` of that, with `State.CHANGE` the field's less
    the key's previous one, with `State.SPREAD` the standard deviation of the field's values in the window, of at least
    four, with `State.DAILY` and `State.WEEKLY` the field's less what its key usually has at that hour beyond its mean.
    `mean` and `deviation` are those of `stream_ad.fold.features.moments.expected`, with `State.OVERALL` those of the
    values of all keys; NaN before the shard's first.
    """

    value: float
    ts_ms: int
    values: float  # of the key, before
    previous: float
    previous_ms: float
    mean: float
    deviation: float
    pool_values: float  # of the field, of all keys


Window: TypeAlias = F64  # [w]  oldest first, the event's last; within ±`VALUE_LIMIT`; NaN = missing, or not there yet


class Tracker(NamedTuple):
    """Exponentially weighted moments, with the parameter as half-life. Before the first value the feature is NaN and
    the formula is not called."""

    mean: float
    variance: float


class Span(NamedTuple):
    total: float  # of the field, or of events, over the parameter's length of the key's event time


class Joint(NamedTuple):
    """All fields of the event together. Where none has a value, the feature is NaN and the formula is not called."""

    distance: float  # root mean square of the fields' deviations, given how they go together: 1 is usual


class Counts(NamedTuple):
    """How often a category was seen before. Where the category is missing, the feature is NaN and the formula is not
    called."""

    times: float  # how often it was seen; an estimate that is never too low
    values: float  # categories of the field that were seen


class Burst(NamedTuple):
    """How often a category was seen of late and in the long run, the event included. Where the category is missing,
    the feature is NaN and the formula is not called.

    Time goes by categories of the field: as many as the window has rows are a tick, whatever the clock says of them.
    Counts are estimates that are never too low.
    """

    recent: float  # times in the present tick; each weighs a share of 1/rows less for every category after it
    times: float  # in the long run
    ticks: float  # of the long run, 1 at least


@formula
def within_limit(value: float) -> float:
    if value > VALUE_LIMIT:
        return VALUE_LIMIT
    return -VALUE_LIMIT if value < -VALUE_LIMIT else value


@formula
def signed_log1p(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)
