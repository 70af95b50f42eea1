"""The tuples that the featuriser's loop works on: the features of a pipeline, a batch, the state, and the output."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream_ad.batch import F32, F64, I32, I64, U64, Bool

EVENTS, LATEST_MS, PAUSED_MS = range(3)  # columns of `seen`
TRACKED_MEAN, TRACKED_VARIANCE = range(2)  # columns of `trackers`


class Recipe(NamedTuple):
    """The features, and the states that they need: q expectations, e trackers, b spans, k, o and u sketches."""

    state: I64  # [f]  State
    number: I64  # [f]  of the formula
    column: I64  # [f]  of the field; -1 = the event itself
    part: I64  # [f]  which expectation, tracker, span or sketch
    parameter: F64  # [f]
    expected_state: I64  # [q]  State
    expected_column: I64  # [q]  of the field
    tracker_column: I64  # [e]
    tracker_alpha: F64  # [e]
    span_column: I64  # [b]  -1 = counts events
    span_ms: I64  # [b]
    sketch_column: I64  # [k]
    overall_column: I64  # [o]
    burst_column: I64  # [u]
    season_part: I64  # [z]  which expectation a season belongs to
    season_column: I64  # [z]  of the field
    season_hours: I64  # [z]  24 of the day, or 168 of the week
    burst_rows: float  # categories that are a tick
    burst_most: float  # of the long run, when it is halved
    memory_rows: float  # values that an exponentially weighted mean is worth: half-life / ln 2
    prior_rows: float
    alpha: float  # decay of a key's fields
    pool_alpha: float  # decay of the pool
    direction: I64  # [d]  1 = only values above what was expected count, -1 = only those below, 0 = both
    least: F64  # [d]  smaller deviations count as none
    least_share: F64  # [d]  the same, as a share of what was expected


class Batch(NamedTuple):
    slot: I32  # [n]
    fresh: Bool  # [n]
    ts_ms: I64  # [n]
    paused_ms: I64  # [n]  of the whole feed, up to now
    codes: U64  # [n,c]
    values: F64  # [n,w,d]
    age_ms: I64  # [n,w]
    emit: Bool  # [n]


class Kept(NamedTuple):
    """The arrays of `FeatureState`."""

    pool: F64
    overall: npt.NDArray[np.uint32]
    overall_total: I64
    seen: I64
    fields: F64
    trackers: F64
    spans: F64
    sketch: npt.NDArray[np.uint16]
    sketched: I64
    rows: F32
    covariance: F64
    precision: F64
    joint_rows: I64
    season: F64
    season_pool: F64
    bursts: F64
    burst_totals: I64


class Output(NamedTuple):
    x: F32  # [m,w,f]
    base: F64  # [m,q,2]
