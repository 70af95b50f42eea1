"""Features of every event, as the `FeatureSpec` lists them, and the window of them that is scored.

Of a numeric field with value `v` (beyond ±1e100 taken as that; missing gives NaN unless said):

- `raw`: v. `log1p`: sign(v)·log1p(|v|).
- `diff`: v less the key's previous value of the field. `rate`: that per second of event time
  since; NaN where time did not advance. NaN where the key had no value before.
- `mean`, `std`, `min`, `max`: of the values in the window, the event's included; computed anew
  every time in two passes about the mean (Chan, Golub & LeVeque 1983), standard deviation of the
  population. NaN only for a window without values.
- `ew_mean:ROWS`, `ew_std:ROWS`: exponentially weighted with a half-life in values of the key, the
  event's included (West 1979; Finch 2009, section 9): the k-th value has weight
  max(1/k, 1 - 2^(-1/ROWS)), so the first values count alike. A missing value repeats the last.
- `zscore`: (v - m) / s with m, s the mean and deviation expected before the event: the key's own
  (exponentially weighted as above, half-life `half_life_rows`) blended with the shard's, pooled over all
  keys (100 times that half-life). With k = min(values of the key, half_life_rows / ln 2):
  m = (k·m_key + q·m_pool) / (k + q), s² = (k·var_key + p·within) / (k + p);
  `within` is the mean square of what values deviate from their own key's mean, p = prior_rows ·
  2^(-values/half_life_rows), so that the pool is forgotten once a key is known, and
  q = min(p, within / between), between = var_pool - within: where keys differ in level the pool's mean
  says little about a key (Efron & Morris 1975). A new key has m = m_pool, s² = var_pool. Until 64 deviations
  are known `within` is drawn towards var_pool.
  s is at least 1e-3·√within and 1e-12·(|m| + 1): a constant series does not explode. |z| is at most 1e4,
  and at most √N after N values in the pool, the most by which one of N + 1 values can deviate
  (Samuelson 1968); so the first event of a shard has z = 0.
  What is learnt is the value cut to m ± r·s, r = max(8, 2/(3√a)) for a weight of a: one event raises a
  variance by half at most, and a wild one does not poison it (winsorising, Huber & Ronchetti 2009).
  Not cut: a key's first 16 values, the pool's first 256, and whatever follows a constant series.
- `sum:SPAN`: signed log1p of the field's sum over the key's last SPAN of event time.
- `missing`: 1 or 0.

Of the event itself:

- `gap`: log1p of the seconds since the key's latest event; 0 where time ran backwards, NaN at first.
- `count:SPAN`: log1p of the key's events in the last SPAN, this one included.
  Spans are 16 buckets of event time, at floor(16·ts/SPAN): a span covers between 15/16 and 16/16 of
  its length. A late event is added to its bucket while that is held, and sees the span up to itself.
- `time_of_day_sin/_cos`, `day_of_week_sin/_cos`: UTC; weeks begin on Monday.

Of a categorical field (missing: NaN, and not counted), before the event, per key or `_overall`:

- `novelty`: 1 where the category was never seen. `frequency`: log((times + 0.5) / (values + 1)).
  Times seen are estimated by a count-min sketch of two rows, 32 wide per key and 65,536 overall, with
  conservative update (Cormode & Muthukrishnan 2005; Estan & Varghese 2002). It never tells less than
  the truth: a novelty is never invented, only hidden by a collision. Full counters are all halved,
  rounding up.
- `missing`: 1 or 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_ad.batch import F32, F64, I64, FeatureBatch, WindowBatch
from stream_ad.config.features import Feature, FeatureSpec
from stream_ad.fold.features.kernel import featurise
from stream_ad.fold.features.recipe import BUCKETS, Kind, Recipe
from stream_ad.fold.state import per_key

POOL_HALF_LIVES = 100.0
KEY_SKETCH, OVERALL_SKETCH = 32, 65_536  # counters in a row
GROUP = {
    "ew_mean": "tracker",
    "ew_std": "tracker",
    "count": "span",
    "sum": "span",
    "novelty": "sketch",
    "frequency": "sketch",
    "novelty_overall": "overall",
    "frequency_overall": "overall",
}


@dataclass
class FeatureState:
    """e trackers (field and half-life), b spans, k and o sketches, as the spec needs them."""

    pool: F64  # [d,5]  values, mean, variance over all keys; residuals, variance within keys
    overall: npt.NDArray[np.uint32]  # [o,2,65536]
    overall_total: I64  # [o]
    seen: I64 = per_key()  # [capacity,2]  events, latest event time
    fields: F64 = per_key()  # [capacity,d,5]  values, mean, variance, previous value and its time
    trackers: F64 = per_key()  # [capacity,e,2]  mean, variance
    spans: F64 = per_key()  # [capacity,b,17]  16 buckets, the number of the newest
    sketch: npt.NDArray[np.uint16] = per_key()  # [capacity,k,2,32]
    sketched: I64 = per_key()  # [capacity,k]
    rows: F32 = per_key()  # [capacity,w,f]  features of the last events, event `i` at `i % w`


class Featuriser:
    """Windows -> what the scorer sees. Every event is learnt; emitted ones are answered.

    `x` [m,w,f] holds the features each lag had when it was the newest, NaN for lags absent from
    the window. Always finite or NaN: features are cut at ±1e30. `base` [m,d,2] is the mean and
    deviation of `zscore`, for every numeric field; NaN before the shard's first value of it.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        # what several features share is kept once: (column, parameter) of each group
        needed: dict[str, list[tuple[int, float]]] = {"tracker": [], "span": [], "sketch": [], "overall": [], "": []}
        part = []
        for feature in spec.features:
            group, wanted = needed[GROUP.get(feature.kind, "")], (feature.column, feature.parameter)
            if wanted not in group:
                group.append(wanted)
            part.append(group.index(wanted))
        self.recipe = Recipe(
            kind=_integers(_kind(feature, spec) for feature in spec.features),
            column=_integers(feature.column for feature in spec.features),
            part=_integers(part),
            tracker_column=_integers(column for column, _ in needed["tracker"]),
            tracker_alpha=np.array([_decay(half_life) for _, half_life in needed["tracker"]], np.float64),
            span_column=_integers(column for column, _ in needed["span"]),
            span_ms=_integers(int(span_ms) for _, span_ms in needed["span"]),
            sketch_column=_integers(column for column, _ in needed["sketch"]),
            overall_column=_integers(column for column, _ in needed["overall"]),
            memory_rows=spec.half_life_rows / math.log(2.0),
            prior_rows=float(spec.prior_rows),
            alpha=_decay(spec.half_life_rows),
            pool_alpha=_decay(spec.half_life_rows * POOL_HALF_LIVES),
        )

    def init(self, capacity: int) -> FeatureState:
        recipe, d, o = self.recipe, len(self.spec.numeric), len(self.recipe.overall_column)
        k = len(recipe.sketch_column)
        return FeatureState(
            pool=np.zeros((d, 5)),
            overall=np.zeros((o, 2, OVERALL_SKETCH), np.uint32),
            overall_total=np.zeros(o, np.int64),
            seen=np.zeros((capacity, 2), np.int64),
            fields=np.zeros((capacity, d, 5)),
            trackers=np.zeros((capacity, len(recipe.tracker_column), 2)),
            spans=np.zeros((capacity, len(recipe.span_ms), BUCKETS + 1)),
            sketch=np.zeros((capacity, k, 2, KEY_SKETCH), np.uint16),
            sketched=np.zeros((capacity, k), np.int64),
            rows=np.zeros((capacity, self.spec.rows, len(recipe.kind)), np.float32),
        )

    def step(self, state: FeatureState, batch: WindowBatch) -> FeatureBatch:
        events = batch.keyed.events
        emitted = np.flatnonzero(batch.emit)
        m, w, d = len(emitted), self.spec.rows, len(self.spec.numeric)
        x, base = np.empty((m, w, len(self.recipe.kind)), np.float32), np.empty((m, d, 2), np.float64)
        featurise(
            self.recipe,
            batch.keyed.slot,
            batch.keyed.fresh,
            events.ts_ms,
            np.ascontiguousarray(events.codes),
            batch.values,
            batch.age_ms,
            batch.emit,
            state.seen,
            state.fields,
            state.trackers,
            state.spans,
            state.sketch,
            state.sketched,
            state.rows,
            state.pool,
            state.overall,
            state.overall_total,
            x,
            base,
        )
        return FeatureBatch(batch, emitted, x, base)


def _kind(feature: Feature, spec: FeatureSpec) -> int:
    if feature.kind == "missing" and feature.field in spec.categorical:
        return Kind.missing_category
    return Kind[feature.kind]


def _decay(half_life_rows: float) -> float:
    return -math.expm1(-math.log(2.0) / half_life_rows)


def _integers(values: Iterable[int]) -> I64:
    return np.fromiter(values, np.int64)
