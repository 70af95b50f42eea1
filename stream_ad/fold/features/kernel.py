"""The featuriser's loop: one pass over the rows in log order, one switch over the table of features.

Definitions and their sources are in `stream_ad.fold.features.featuriser`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stream_ad.batch import F32, F64, I32, I64, U64, Bool
from stream_ad.fold.features.recipe import (
    COUNT,
    LEVEL,
    OUT_LIMIT,
    PREVIOUS,
    PREVIOUS_MS,
    Z_LIMIT,
    Kind,
    Recipe,
    cleaned,
    consult,
    cycle,
    expected,
    learn,
    learn_pool,
    moved,
    signed_log1p,
    spanned,
    window_statistic,
)
from stream_ad.kernel import kernel, prefetch

AHEAD = 8  # rows; long enough for memory to answer


@kernel
def featurise(
    recipe: Recipe,
    slot: I32,
    fresh: Bool,
    ts_ms: I64,
    codes: U64,
    values: F64,
    age_ms: I64,
    emit: Bool,
    seen: I64,
    fields: F64,
    trackers: F64,
    spans: F64,
    sketch: npt.NDArray[np.uint16],
    sketched: I64,
    rows: F32,
    pool: F64,
    overall: npt.NDArray[np.uint32],
    overall_total: I64,
    x: F32,
    base: F64,
) -> None:
    n, w, d = values.shape
    # a field of the recipe that is taken within the loops is counted as a new reference every time
    kinds, columns, parts = recipe.kind, recipe.column, recipe.part
    tracker_column, tracker_alpha = recipe.tracker_column, recipe.tracker_alpha
    span_column, span_ms = recipe.span_column, recipe.span_ms
    sketch_column, overall_column = recipe.sketch_column, recipe.overall_column
    memory_rows, prior_rows, alpha_key, alpha_pool = (
        recipe.memory_rows,
        recipe.prior_rows,
        recipe.alpha,
        recipe.pool_alpha,
    )
    f = len(kinds)
    z, diff, rate = np.empty(d), np.empty(d), np.empty(d)
    spoken = np.empty(len(span_ms))
    times, of = np.empty((2, codes.shape[1])), np.empty((2, codes.shape[1]))
    out = 0
    for i in range(n):
        if i + AHEAD < n:
            prefetch(seen, slot[i + AHEAD])
            prefetch(fields, slot[i + AHEAD])
            prefetch(trackers, slot[i + AHEAD])
            prefetch(spans, slot[i + AHEAD])
            prefetch(sketch, slot[i + AHEAD])
            prefetch(rows, slot[i + AHEAD])
        s, now_ms = slot[i], ts_ms[i]
        if fresh[i]:
            seen[s] = 0
            fields[s] = 0.0
            trackers[s] = 0.0
            sketch[s] = 0
            sketched[s] = 0

        for c in range(d):
            value = cleaned(values[i, w - 1, c])
            mean, deviation, variance = expected(fields, s, c, pool, memory_rows, prior_rows)
            if emit[i]:
                base[out, c, 0], base[out, c, 1] = mean, deviation
            z[c], diff[c], rate[c] = math.nan, math.nan, math.nan
            if value == value:
                bound = min(Z_LIMIT, math.sqrt(pool[c, COUNT]))
                z[c] = min(max((value - mean) / deviation, -bound), bound) if bound > 0 else 0.0
                if fields[s, c, COUNT] > 0:
                    diff[c] = value - fields[s, c, PREVIOUS]
                    seconds = (now_ms - fields[s, c, PREVIOUS_MS]) / 1000.0
                    if seconds > 0:
                        rate[c] = diff[c] / seconds
                learn_pool(pool, c, value, fields[s, c, COUNT], fields[s, c, LEVEL], alpha_pool)
                learn(fields, s, c, value, mean, variance, alpha_key)
                fields[s, c, PREVIOUS], fields[s, c, PREVIOUS_MS] = value, now_ms
        for e in range(len(tracker_column)):
            c = tracker_column[e]
            value = cleaned(values[i, w - 1, c])
            if value == value:
                alpha = max(1.0 / fields[s, c, COUNT], tracker_alpha[e])
                trackers[s, e, 0], trackers[s, e, 1] = moved(trackers[s, e, 0], trackers[s, e, 1], alpha, value)
        for b in range(len(span_ms)):
            c = span_column[b]
            amount = cleaned(values[i, w - 1, c]) if c >= 0 else 1.0
            if amount != amount:
                amount = 0.0
            spoken[b] = spanned(spans, s, b, seen[s, 0] == 0, now_ms, span_ms[b], amount)
        for k in range(len(sketch_column)):
            c = sketch_column[k]
            if codes[i, c] != 0:
                of[0, k] = sketched[s, k]
                times[0, k] = consult(sketch[s], sketched[s], k, codes[i, c], 65_535)
        for k in range(len(overall_column)):
            c = overall_column[k]
            if codes[i, c] != 0:
                of[1, k] = overall_total[k]
                times[1, k] = consult(overall, overall_total, k, codes[i, c], 4_294_967_295)

        at = seen[s, 0] % w
        for j in range(f):
            kind, c, part = kinds[j], columns[j], parts[j]
            feature = math.nan
            if kind <= Kind.log1p:
                feature = cleaned(values[i, w - 1, c])
                if kind == Kind.log1p:
                    feature = signed_log1p(feature)
            elif kind == Kind.diff:
                feature = diff[c]
            elif kind == Kind.rate:
                feature = rate[c]
            elif kind == Kind.zscore:
                feature = z[c]
            elif kind <= Kind.max:
                feature = window_statistic(kind, values, i, c)
            elif kind <= Kind.ew_std:
                if fields[s, c, COUNT] > 0:
                    feature = trackers[s, part, 0] if kind == Kind.ew_mean else math.sqrt(trackers[s, part, 1])
            elif kind <= Kind.count:
                feature = signed_log1p(spoken[part])
            elif kind == Kind.gap:
                if seen[s, 0] > 0:
                    feature = math.log1p(max(now_ms - seen[s, 1], 0) / 1000.0)
            elif kind == Kind.time_of_day_sin:
                feature = math.sin(cycle(now_ms, 86_400_000))
            elif kind == Kind.time_of_day_cos:
                feature = math.cos(cycle(now_ms, 86_400_000))
            elif kind == Kind.day_of_week_sin:
                feature = math.sin(cycle(now_ms + 259_200_000, 604_800_000))
            elif kind == Kind.day_of_week_cos:
                feature = math.cos(cycle(now_ms + 259_200_000, 604_800_000))
            elif kind <= Kind.frequency_overall:
                scope = 1 if kind >= Kind.novelty_overall else 0
                if codes[i, c] != 0:
                    if kind == Kind.novelty or kind == Kind.novelty_overall:
                        feature = 1.0 if times[scope, part] == 0 else 0.0
                    else:
                        feature = math.log((times[scope, part] + 0.5) / (of[scope, part] + 1.0))
            elif kind == Kind.missing:
                feature = 1.0 if values[i, w - 1, c] != values[i, w - 1, c] else 0.0
            elif kind == Kind.missing_category:
                feature = 1.0 if codes[i, c] == 0 else 0.0
            if feature > OUT_LIMIT:
                feature = OUT_LIMIT
            elif feature < -OUT_LIMIT:
                feature = -OUT_LIMIT
            rows[s, at, j] = feature

        seen[s, 1] = now_ms if seen[s, 0] == 0 else max(seen[s, 1], now_ms)
        seen[s, 0] += 1
        if emit[i]:
            for row in range(w - 1, -1, -1):
                present = age_ms[i, row] >= 0
                for j in range(f):
                    x[out, row, j] = rows[s, at, j] if present else np.nan
                at = at - 1 if at > 0 else w - 1
            out += 1
