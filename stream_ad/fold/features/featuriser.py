"""Computes the features of every event, as the `FeatureSpec` lists them, and the windows that are scored.

`stream_ad.config.feature_kinds` defines each feature.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_ad.batch import F32, F64, I64, FeatureBatch, WindowBatch
from stream_ad.config.feature_kinds.row import EXPECTING, PARAMETER, SEASONAL, State
from stream_ad.config.features import FeatureSpec
from stream_ad.config.rules import Rules
from stream_ad.fold.features.feed import paused
from stream_ad.fold.features.formulas import NUMBER
from stream_ad.fold.features.kernel import featurise
from stream_ad.fold.features.recipe import Batch, Kept, Output, Recipe
from stream_ad.fold.features.seasons import DAY_HOURS, MORE, WEEK_HOURS
from stream_ad.fold.features.sketches import BURST_WIDTH, KEY_WIDTH, OVERALL_WIDTH, with_pairs
from stream_ad.fold.features.spans import BUCKETS
from stream_ad.fold.state import per_key

POOL_HALF_LIVES = 100.0
HOURS = {State.DAILY: DAY_HOURS, State.WEEKLY: WEEK_HOURS}
SIGN = {"up": 1, "both": 0, "down": -1}


@dataclass
class FeatureState:
    """p figures of which moments are learnt (the d fields first), e trackers (field and half-life), b spans, k, o and
    u sketches, as the spec needs them."""

    pool: F64  # [p,11]  columns in `moments`
    overall: npt.NDArray[np.uint32]  # [o,2,65536]
    overall_total: I64  # [o]
    covariance: F64  # [j,d,d]  of the fields' deviations; j = 1 with a joint feature, else 0
    precision: F64  # [j,d,d]  its inverse
    joint_rows: I64  # [j]
    season_pool: F64  # [z,hours,2]  columns in `seasons`; as many hours as the longest season has
    bursts: F64  # [u,2,16384,3]  columns in `sketches`
    burst_totals: I64  # [u,2]
    feed: F64  # [5]  columns in `feed`
    seen: I64 = per_key()  # [capacity,3]  events, latest event time, what the feed had paused by then
    fields: F64 = (
        per_key()
    )  # [capacity,p,6]  values, mean, variance, previous value and its time, share beyond the gate
    trackers: F64 = per_key()  # [capacity,e,2]  mean, variance
    spans: F64 = per_key()  # [capacity,b,17]  16 buckets, the number of the newest
    sketch: npt.NDArray[np.uint16] = per_key()  # [capacity,k,2,32]
    sketched: I64 = per_key()  # [capacity,k]
    season: F64 = per_key()  # [capacity,z,hours,2]
    rows: F32 = per_key()  # [capacity,w,f]  features of the last events, event `i` at `i % w`


class Featuriser:
    """Fold[FeatureState, WindowBatch, FeatureBatch]. It learns every event, and answers those with `emit`.

    `x` [m,w,f] holds the features each lag had when it was the newest, NaN for lags absent from
    the window. Always finite or NaN: features are cut at ±1e30. `base` [m,q,2] is the mean and deviation that were
    expected, in the order of `FeatureSpec.expected`; NaN before the shard's first value.

    A value whose deviation does not count by `rules` is seen by the features as what was expected; it is learnt as it
    is.
    """

    def __init__(self, spec: FeatureSpec, rules: Rules | None = None) -> None:
        self.spec = spec
        self.recipe = _recipe(spec, rules or Rules())
        self._first, self._second = np.array(spec.pairs, np.int64).reshape(-1, 2).T.copy()

    def init(self, capacity: int) -> FeatureState:
        recipe, k, o = self.recipe, len(self.recipe.sketch_column), len(self.recipe.overall_column)
        unrelated = np.array([np.eye(len(self.spec.numeric))])[: int(self.spec.has_joint)]
        z, rows = len(recipe.season_hours), int(recipe.season_hours.max(initial=0)) + MORE
        p = sum(state is not State.OVERALL for state, _ in self.spec.expected)
        return FeatureState(
            pool=np.zeros((p, 11)),
            overall=np.zeros((o, 2, OVERALL_WIDTH), np.uint32),
            overall_total=np.zeros(o, np.int64),
            covariance=unrelated.copy(),
            precision=unrelated,
            joint_rows=np.zeros(len(unrelated), np.int64),
            season_pool=np.zeros((z, rows, 2)),
            bursts=np.zeros((len(recipe.burst_column), 2, BURST_WIDTH, 3)),
            burst_totals=np.zeros((len(recipe.burst_column), 2), np.int64),
            feed=np.zeros(5),
            seen=np.zeros((capacity, 3), np.int64),
            fields=np.zeros((capacity, p, 6)),
            trackers=np.zeros((capacity, len(recipe.tracker_column), 2)),
            spans=np.zeros((capacity, len(recipe.span_ms), BUCKETS + 1)),
            sketch=np.zeros((capacity, k, 2, KEY_WIDTH), np.uint16),
            sketched=np.zeros((capacity, k), np.int64),
            season=np.zeros((capacity, z, rows, 2)),
            rows=np.zeros((capacity, self.spec.rows, len(recipe.number)), np.float32),
        )

    def step(self, state: FeatureState, batch: WindowBatch) -> FeatureBatch:
        events = batch.keyed.events
        emitted = np.flatnonzero(batch.emit)
        m, w, f = len(emitted), self.spec.rows, len(self.recipe.number)
        x, base = np.empty((m, w, f), np.float32), np.empty((m, len(self.recipe.expected_state), 2), np.float64)
        featurise(
            self.recipe,
            Batch(
                slot=batch.keyed.slot,
                fresh=batch.keyed.fresh,
                ts_ms=events.ts_ms,
                paused_ms=paused(state.feed, batch.keyed.slot, events.ts_ms),
                codes=with_pairs(np.ascontiguousarray(events.codes), self._first, self._second),
                values=batch.values,
                age_ms=batch.age_ms,
                emit=batch.emit,
            ),
            Kept(*(getattr(state, name) for name in Kept._fields)),
            Output(x, base),
        )
        return FeatureBatch(batch, emitted, x, base)


def _recipe(spec: FeatureSpec, rules: Rules) -> Recipe:
    # what several features share is kept once: (column, parameter) of each state
    needed: dict[State, list[tuple[int, float]]] = {state: [] for state in State}
    number, part = [], []
    for feature in spec.features:
        kind = spec.kind_of(feature)
        number.append(NUMBER[kind.of, feature.kind])
        if kind.state in EXPECTING:
            part.append(spec.expected.index((kind.state, feature.column)))
            continue
        shared = needed[kind.state]
        wanted = feature.column, feature.parameter if kind.state in PARAMETER else 0.0
        if wanted not in shared:
            shared.append(wanted)
        part.append(shared.index(wanted))
    seasons = [(part, column, HOURS[state]) for part, (state, column) in enumerate(spec.expected) if state in SEASONAL]
    return Recipe(
        state=_integers(spec.kind_of(feature).state for feature in spec.features),
        number=_integers(number),
        column=_integers(feature.column for feature in spec.features),
        part=_integers(part),
        parameter=np.array([feature.parameter for feature in spec.features], np.float64),
        expected_state=_integers(state for state, _ in spec.expected),
        expected_column=_integers(column for _, column in spec.expected),
        tracker_column=_integers(column for column, _ in needed[State.TRACKER]),
        tracker_alpha=np.array([_decay(half_life) for _, half_life in needed[State.TRACKER]], np.float64),
        span_column=_integers(column for column, _ in needed[State.SPAN]),
        span_ms=_integers(int(span_ms) for _, span_ms in needed[State.SPAN]),
        sketch_column=_integers(column for column, _ in needed[State.KEY_COUNTS]),
        overall_column=_integers(column for column, _ in needed[State.OVERALL_COUNTS]),
        burst_column=_integers(column for column, _ in needed[State.BURST]),
        season_part=_integers(part for part, _, _ in seasons),
        season_column=_integers(column for _, column, _ in seasons),
        season_hours=_integers(hours for _, _, hours in seasons),
        burst_rows=float(spec.rows),
        burst_most=POOL_HALF_LIVES * spec.half_life_rows * 2.0,
        memory_rows=spec.half_life_rows / math.log(2.0),
        prior_rows=float(spec.prior_rows),
        alpha=_decay(spec.half_life_rows),
        pool_alpha=_decay(spec.half_life_rows * POOL_HALF_LIVES),
        direction=_integers(SIGN[rules.direction.get(field, "both")] for field in spec.numeric),
        least=np.array([rules.least.get(field, 0.0) for field in spec.numeric], np.float64),
        least_share=np.array([rules.least_share.get(field, 0.0) for field in spec.numeric], np.float64),
    )


def _decay(half_life_rows: float) -> float:
    return -math.expm1(-math.log(2.0) / half_life_rows)


def _integers(values: Iterable[int]) -> I64:
    return np.fromiter(values, np.int64)
