"""The featuriser's loop: one pass over the rows in log order.

Functions that are called for every row are inlined, take arrays instead of tuples of arrays, and make no slice: only
then the compiler counts no references. Counting them costs more than the statistics.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stream_ad.batch import F32, F64, I64, U64
from stream_ad.config.feature_kinds.given import Burst, Category, Counts, Event, Joint, Moments, Span, Tracker, Value
from stream_ad.config.feature_kinds.row import EXPECTING, State
from stream_ad.fold.ewma import moved
from stream_ad.fold.features.figures import counted, counted_figure, hold, make_room, measure, newest
from stream_ad.fold.features.formulas import computed
from stream_ad.fold.features.joint import learn_joint, squared_distance
from stream_ad.fold.features.moments import (
    DEVIATION,
    MEAN,
    OWN_COUNT,
    POOL_COUNT,
    PREVIOUS,
    PREVIOUS_MS,
    VARIANCE,
    expected,
    expected_overall,
    kept_out,
    learn,
    learn_pool,
)
from stream_ad.fold.features.recipe import (
    EVENTS,
    LATEST_MS,
    PAUSED_MS,
    TRACKED_MEAN,
    TRACKED_VARIANCE,
    Batch,
    Kept,
    Output,
    Recipe,
)
from stream_ad.fold.features.seasons import Seasons, expect_season, learn_season
from stream_ad.fold.features.sketches import IN_ALL, LATELY, TICKS, consult, rise
from stream_ad.fold.features.spans import spanned
from stream_ad.kernel import inlined, kernel, prefetch

U16 = npt.NDArray[np.uint16]
AHEAD = 8  # rows between the prefetch of a key's memory and its use
OUT_LIMIT = 1e30  # of a feature: finite in float32
TIMES, CATEGORIES = range(2)  # columns of `counts`
of_event, of_value, of_category = computed(State.EVENT), computed(State.VALUE), computed(State.CATEGORY)
of_moments, of_window, of_tracker = computed(*EXPECTING), computed(State.WINDOW), computed(State.TRACKER)
of_span, of_joint, of_burst = computed(State.SPAN), computed(State.JOINT), computed(State.BURST)
of_key_counts, of_overall_counts = computed(State.KEY_COUNTS), computed(State.OVERALL_COUNTS)


@inlined
def room_for_counts(recipe: Recipe) -> tuple[F64, F64, F64]:
    k, o, u = len(recipe.sketch_column), len(recipe.overall_column), len(recipe.burst_column)
    return np.empty((k, 2)), np.empty((o, 2)), np.empty((u, 3))


@inlined
def fetch(seen: I64, fields: F64, trackers: F64, spans: F64, sketch: U16, season: F64, rows: F32, s: int) -> None:
    prefetch(seen, s)
    prefetch(fields, s)
    prefetch(trackers, s)
    prefetch(spans, s)
    prefetch(sketch, s)
    prefetch(season, s)
    prefetch(rows, s)


@inlined
def forget(seen: I64, fields: F64, trackers: F64, sketch: U16, sketched: I64, season: F64, s: int) -> None:
    """Spans and rows forget by themselves: they know how many events the key has."""
    seen[s] = 0
    fields[s] = 0.0
    trackers[s] = 0.0
    sketch[s] = 0
    sketched[s] = 0
    season[s] = 0.0


@inlined
def gap_of(seen: I64, s: int, now_ms: int, paused_ms: int) -> int:
    return int(max(now_ms - seen[s, LATEST_MS] - (paused_ms - seen[s, PAUSED_MS]), 0))


@inlined
def saw(seen: I64, s: int, now_ms: int, paused_ms: int) -> None:
    seen[s, LATEST_MS] = now_ms if seen[s, EVENTS] == 0 else max(seen[s, LATEST_MS], now_ms)
    seen[s, PAUSED_MS] = paused_ms
    seen[s, EVENTS] += 1


@inlined
def track(trackers: F64, columns: I64, least: F64, fields: F64, values: F64, s: int, i: int) -> None:
    for e in range(len(columns)):
        c = columns[e]
        value = newest(values, i, c)
        if value == value:
            alpha = max(1.0 / (fields[s, c, OWN_COUNT] + 1.0), least[e])
            mean, variance = moved(trackers[s, e, TRACKED_MEAN], trackers[s, e, TRACKED_VARIANCE], alpha, value)
            trackers[s, e, TRACKED_MEAN], trackers[s, e, TRACKED_VARIANCE] = mean, variance


@inlined
def add_up(
    totals: F64, columns: I64, span_ms: I64, spans: F64, values: F64, s: int, i: int, now_ms: int, first: bool
) -> None:
    for b in range(len(columns)):
        c = columns[b]
        amount = newest(values, i, c) if c >= 0 else 1.0
        totals[b] = spanned(spans, s, b, first, now_ms, span_ms[b], amount)


@inlined
def look_up(counts: F64, columns: I64, sketch: U16, sketched: I64, codes: U64, s: int, i: int, limit: int) -> None:
    for k in range(len(columns)):
        code = codes[i, columns[k]]
        if code != 0:
            counts[k, CATEGORIES] = sketched[s, k]
            counts[k, TIMES] = consult(sketch, sketched, s, k, code, limit)


@inlined
def look_late(late: F64, columns: I64, bursts: F64, totals: I64, codes: U64, i: int, rows: float, most: float) -> None:
    for u in range(len(columns)):
        code = codes[i, columns[u]]
        if code != 0:
            rise(late, u, bursts, totals, code, rows, most)


@inlined
def expect(
    expectation: F64, kinds: I64, columns: I64, fields: F64, pool: F64, memory_rows: float, prior_rows: float, s: int
) -> None:
    for q in range(len(expectation)):
        if kinds[q] == State.OVERALL:
            mean, spread, variance = expected_overall(pool, columns[q])
        else:
            mean, spread, variance = expected(fields, s, q, pool, memory_rows, prior_rows)
        expectation[q, MEAN], expectation[q, DEVIATION], expectation[q, VARIANCE] = mean, spread, variance


@inlined
def learn_figures(
    expectation: F64, fields: F64, pool: F64, alpha: float, pool_alpha: float, figures: F64, s: int, now_ms: int
) -> None:
    for c in range(len(pool)):
        value = figures[c]
        if value == value:
            if not kept_out(fields, s, c, value, expectation[c, MEAN], expectation[c, DEVIATION], alpha):
                learn_pool(pool, fields, s, c, value, pool_alpha)
                learn(fields, s, c, value, expectation[c, MEAN], expectation[c, VARIANCE], alpha)
            fields[s, c, OWN_COUNT] += 1.0
            fields[s, c, PREVIOUS], fields[s, c, PREVIOUS_MS] = value, now_ms


@inlined
def is_expecting(kind: int) -> bool:
    seasonal = kind == State.DAILY or kind == State.WEEKLY
    own = kind == State.MOMENTS or kind == State.LOGARITHM or kind == State.CHANGE or kind == State.SPREAD
    return own or seasonal or kind == State.OVERALL


@inlined
def moments(
    kind: int, expectation: F64, figures: F64, fields: F64, pool: F64, s: int, c: int, q: int, now_ms: int,
    direction: int, room: float,
) -> Moments:  # fmt: skip
    """Of the expectation `q`, which the moments of the key and of the pool give."""
    learnt, mean = c if kind == State.OVERALL else q, expectation[q, MEAN]
    return Moments(
        value=counted_figure(kind, figures[q], mean, direction, room),
        ts_ms=now_ms,
        values=fields[s, learnt, OWN_COUNT],
        previous=counted_figure(kind, fields[s, learnt, PREVIOUS], mean, direction, room),
        previous_ms=fields[s, learnt, PREVIOUS_MS],
        mean=mean,
        deviation=expectation[q, DEVIATION],
        pool_values=pool[learnt, POOL_COUNT],
    )


@inlined
def of_counts(kind: int, formula: int, of_key: F64, of_all: F64, late: F64, p: int, argument: float) -> float:
    if kind == State.KEY_COUNTS:
        return float(of_key_counts(formula, Counts(of_key[p, TIMES], of_key[p, CATEGORIES]), argument))
    if kind == State.OVERALL_COUNTS:
        return float(of_overall_counts(formula, Counts(of_all[p, TIMES], of_all[p, CATEGORIES]), argument))
    if kind == State.BURST:
        return float(of_burst(formula, Burst(late[p, LATELY], late[p, IN_ALL], late[p, TICKS]), argument))
    return math.nan


@inlined
def cut(feature: float) -> float:
    if feature > OUT_LIMIT:
        return OUT_LIMIT
    return -OUT_LIMIT if feature < -OUT_LIMIT else feature


@inlined
def emit_window(
    x: F32, base: F64, rows: F32, age_ms: I64, expectation: F64, shift: F64, i: int, s: int, at: int, out: int
) -> None:
    w, f = rows.shape[1], rows.shape[2]
    for row in range(w - 1, -1, -1):
        present = age_ms[i, row] >= 0
        for j in range(f):
            x[out, row, j] = rows[s, at, j] if present else math.nan
        at = at - 1 if at > 0 else w - 1
    for c in range(len(expectation)):
        base[out, c, 0], base[out, c, 1] = expectation[c, MEAN] + shift[c], expectation[c, DEVIATION]


@kernel
def featurise(recipe: Recipe, batch: Batch, kept: Kept, output: Output) -> None:
    state, number, column, part, parameter = recipe.state, recipe.number, recipe.column, recipe.part, recipe.parameter
    expecting, expecting_of, seasonal = recipe.expected_state, recipe.expected_column, len(recipe.season_part) > 0
    tracker_column, tracker_alpha = recipe.tracker_column, recipe.tracker_alpha
    span_column, span_ms = recipe.span_column, recipe.span_ms
    sketch_column, overall_column, burst_column = recipe.sketch_column, recipe.overall_column, recipe.burst_column
    direction, least, least_share = recipe.direction, recipe.least, recipe.least_share
    memory_rows, prior_rows, alpha, pool_alpha = recipe.memory_rows, recipe.prior_rows, recipe.alpha, recipe.pool_alpha
    slot, fresh, ts_ms, paused_ms, codes, values, age_ms, emit = batch  # in the loop, numba would count references
    pool, overall, overall_total, seen, fields, trackers, spans, sketch, sketched, rows = kept[:10]
    covariance, precision, joint_rows, season, season_pool, bursts, burst_totals = kept[10:]
    x, base, n, w, q, out = output.x, output.base, len(slot), values.shape[1], len(expecting), 0
    expectation, figures, totals, held = np.empty((q, 3)), np.empty(q), np.empty(len(span_ms)), np.empty(w)
    room, deviates, shift = np.empty(len(direction)), np.empty(len(direction)), np.zeros(q)
    of_key, of_all, late = room_for_counts(recipe)
    seasons = Seasons(season, season_pool, recipe.season_part, recipe.season_column, recipe.season_hours)
    every, every_total = overall.reshape((1, *overall.shape)), overall_total.reshape((1, len(overall_total)))
    for i in range(n):
        if i + AHEAD < n:
            fetch(seen, fields, trackers, spans, sketch, season, rows, slot[i + AHEAD])
        s, now_ms = slot[i], ts_ms[i]
        if fresh[i]:
            forget(seen, fields, trackers, sketch, sketched, season, s)
        events, gap = seen[s, EVENTS], gap_of(seen, s, now_ms, paused_ms[i])
        expect(expectation, expecting, expecting_of, fields, pool, memory_rows, prior_rows, s)
        if seasonal:
            expect_season(shift, seasons, fields, expectation, s, now_ms)
        make_room(room, expectation, least, least_share)
        measure(figures, expecting, expecting_of, fields, values, held, s, i, expectation, shift, direction, room)
        square = squared_distance(deviates, precision, figures, expectation, pool, direction, room)
        track(trackers, tracker_column, tracker_alpha, fields, values, s, i)
        add_up(totals, span_column, span_ms, spans, values, s, i, now_ms, events == 0)
        look_up(of_key, sketch_column, sketch, sketched, codes, s, i, 65_535)
        look_up(of_all, overall_column, every, every_total, codes, 0, i, 4_294_967_295)
        look_late(late, burst_column, bursts, burst_totals, codes, i, recipe.burst_rows, recipe.burst_most)
        for j in range(len(number)):
            kind, formula, c, p, argument, feature = state[j], number[j], column[j], part[j], parameter[j], math.nan
            if kind == State.EVENT:
                feature = of_event(formula, Event(now_ms, events, gap), argument)
            elif kind == State.VALUE:
                value = counted(newest(values, i, c), expectation[c, MEAN], direction[c], room[c])
                feature = of_value(formula, Value(value), argument)
            elif kind == State.CATEGORY:
                feature = of_category(formula, Category(codes[i, c] == 0), argument)
            elif is_expecting(kind):
                if figures[p] == figures[p]:
                    of = moments(kind, expectation, figures, fields, pool, s, c, p, now_ms, direction[c], room[c])
                    feature = of_moments(formula, of, argument)
            elif kind == State.WINDOW:
                hold(held, values, i, c, expectation[c, MEAN], direction[c], room[c])
                feature = of_window(formula, held, argument)
            elif kind == State.TRACKER:
                if fields[s, c, OWN_COUNT] > 0 or not math.isnan(values[i, w - 1, c]):
                    tracked = Tracker(trackers[s, p, TRACKED_MEAN], trackers[s, p, TRACKED_VARIANCE])
                    feature = of_tracker(formula, tracked, argument)
            elif kind == State.JOINT:
                feature = of_joint(formula, Joint(math.sqrt(square)), argument)
            elif kind == State.SPAN:
                feature = of_span(formula, Span(totals[p]), argument)
            elif codes[i, c] != 0:
                feature = of_counts(kind, formula, of_key, of_all, late, p, argument)
            rows[s, events % w, j] = cut(feature)
        if seasonal:
            learn_season(seasons, fields, expectation, shift, figures, seen, s, now_ms)
        learn_figures(expectation, fields, pool, alpha, pool_alpha, figures, s, now_ms)
        learn_joint(covariance, precision, joint_rows, deviates, square, pool_alpha)
        saw(seen, s, now_ms, paused_ms[i])
        if emit[i]:
            emit_window(x, base, rows, age_ms, expectation, shift, i, s, events % w, out)
            out += 1
