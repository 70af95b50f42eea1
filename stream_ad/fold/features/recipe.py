"""What the featuriser's loop is made of: running statistics, buckets, sketches, and the table of features.

Definitions and their sources are in `stream_ad.fold.features.featuriser`.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream_ad.batch import F64, I64
from stream_ad.kernel import kernel

BUCKETS = 16  # of a span, a power of two
LIMIT = 1e100  # values beyond are taken as this: their squares stay finite
OUT_LIMIT = 1e30  # of a feature: finite in float32
Z_LIMIT = 1e4
KEY_WARM, POOL_WARM = 16, 256  # values before outliers are cut
LEAST = 1e-12  # deviation, of the level: far above what rounding leaves in a variance
WITHIN_WARM = 64.0  # residuals before the variance within keys is trusted fully
COUNT, LEVEL, VARIANCE, PREVIOUS, PREVIOUS_MS = range(5)  # columns of `fields`; `pool` shares the first three
RESIDUALS, WITHIN = 3, 4  # columns of `pool`: how many, and their mean square


class Kind(IntEnum):
    raw = 0
    log1p = 1
    diff = 2
    rate = 3
    zscore = 4
    mean = 5
    std = 6
    min = 7
    max = 8
    ew_mean = 9
    ew_std = 10
    sum = 11
    count = 12
    gap = 13
    time_of_day_sin = 14
    time_of_day_cos = 15
    day_of_week_sin = 16
    day_of_week_cos = 17
    novelty = 18
    frequency = 19
    novelty_overall = 20
    frequency_overall = 21
    missing = 22
    missing_category = 23


class Recipe(NamedTuple):
    """The table of features, and what they lean on: e trackers, b spans, k and o sketches."""

    kind: I64  # [f]  Kind
    column: I64  # [f]  of the field
    part: I64  # [f]  which tracker, span or sketch
    tracker_column: I64  # [e]
    tracker_alpha: F64  # [e]
    span_column: I64  # [b]  -1 = counts events
    span_ms: I64  # [b]
    sketch_column: I64  # [k]
    overall_column: I64  # [o]
    memory_rows: float  # values that an exponentially weighted mean is worth: half-life / ln 2
    prior_rows: float
    alpha: float  # decay of a key's fields
    pool_alpha: float  # decay of the pool


@kernel
def cleaned(value: float) -> float:
    if value > LIMIT:
        return LIMIT
    return -LIMIT if value < -LIMIT else value


@kernel
def signed_log1p(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


@kernel
def moved(mean: float, variance: float, alpha: float, value: float) -> tuple[float, float]:
    delta = value - mean
    step = alpha * delta
    return mean + step, (1.0 - alpha) * (variance + delta * step)


@kernel
def expected(
    fields: F64, s: int, c: int, pool: F64, memory_rows: float, prior_rows: float
) -> tuple[float, float, float]:
    """Mean, standard deviation, and the variance without its floor (0 where it is below)."""
    if pool[c, COUNT] == 0:
        return math.nan, math.nan, 0.0
    count, total = fields[s, c, COUNT], pool[c, VARIANCE]
    mean, variance, spread = pool[c, LEVEL], total, total
    if count > 0:
        if pool[c, RESIDUALS] < WITHIN_WARM:
            spread += pool[c, RESIDUALS] / WITHIN_WARM * (pool[c, WITHIN] - total)
        else:
            spread = pool[c, WITHIN]
        own = min(count, memory_rows)
        prior = prior_rows * math.exp(-count / memory_rows)
        share = own / (own + prior)
        variance = share * fields[s, c, VARIANCE] + (1.0 - share) * spread
        between = total - spread
        if prior * between > spread:
            share = own * between / (own * between + spread)
        mean += share * (fields[s, c, LEVEL] - mean)
    least = LEAST * (abs(mean) + 1.0)
    floor = max(1e-6 * spread, least * least)
    return mean, math.sqrt(max(variance, floor)), variance if variance > floor else 0.0


@kernel
def winsorised(value: float, mean: float, variance: float, alpha: float) -> float:
    """`value`, cut to a distance from `mean`; as it is where nothing is known to vary."""
    delta, least = value - mean, LEAST * (abs(mean) + 1.0)
    if delta * delta <= 64.0 * variance or variance <= least * least:
        return value
    reach = max(8.0, 2.0 / (3.0 * math.sqrt(alpha))) * math.sqrt(variance)
    return min(max(value, mean - reach), mean + reach)


@kernel
def learn(fields: F64, s: int, c: int, value: float, mean: float, variance: float, floor: float) -> None:
    """Moves the key's own statistics; `mean` and `variance` were expected, `floor` is the least weight."""
    count = fields[s, c, COUNT] + 1.0
    alpha = max(1.0 / count, floor)
    if count > KEY_WARM:
        value = winsorised(value, mean, variance, alpha)
    fields[s, c, LEVEL], fields[s, c, VARIANCE] = moved(fields[s, c, LEVEL], fields[s, c, VARIANCE], alpha, value)
    fields[s, c, COUNT] = count


@kernel
def learn_pool(pool: F64, c: int, value: float, own_count: float, own_mean: float, floor: float) -> None:
    """Moves the statistics of all keys; `own_*` are the key's before the value."""
    if own_count > 0:
        count = pool[c, RESIDUALS] + 1.0
        alpha = max(1.0 / count, floor)
        held = winsorised(value, own_mean, pool[c, WITHIN], alpha) if count > POOL_WARM else value
        # a mean of k values is off by 1/k of the variance itself
        square = (held - own_mean) * (held - own_mean) * (own_count / (own_count + 1.0))
        pool[c, WITHIN] += alpha * (square - pool[c, WITHIN])
        pool[c, RESIDUALS] = count
    count = pool[c, COUNT] + 1.0
    alpha = max(1.0 / count, floor)
    held = winsorised(value, pool[c, LEVEL], pool[c, VARIANCE], alpha) if count > POOL_WARM else value
    pool[c, LEVEL], pool[c, VARIANCE] = moved(pool[c, LEVEL], pool[c, VARIANCE], alpha, held)
    pool[c, COUNT] = count


@kernel
def spanned(spans: F64, s: int, b: int, first: bool, now_ms: int, span_ms: int, amount: float) -> float:
    """Adds to the event's bucket; answers the sum of the span that ends with it."""
    number = now_ms * BUCKETS // span_ms
    if first:
        spans[s, b, :] = 0.0
        spans[s, b, BUCKETS] = number
    newest = int(spans[s, b, BUCKETS])
    if number > newest:
        for passed in range(max(newest + 1, number - BUCKETS + 1), number + 1):
            spans[s, b, passed & (BUCKETS - 1)] = 0.0
        newest = number
        spans[s, b, BUCKETS] = number
    oldest = newest - BUCKETS + 1
    if number < oldest:
        return amount
    spans[s, b, number & (BUCKETS - 1)] += amount
    total = 0.0
    for held in range(oldest, number + 1):
        total += spans[s, b, held & (BUCKETS - 1)]
    return total


@kernel
def consult(sketch: npt.NDArray[np.unsignedinteger], total: I64, k: int, code: int, limit: int) -> float:
    """How often the category was seen before, at least; counts it."""
    if total[k] >= limit:
        # halved, rounding up: what was seen stays seen
        sketch[k] = sketch[k] // 2 + sketch[k] % 2
        total[k] = total[k] // 2 + total[k] % 2
    h = np.uint64(code)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    mask = np.uint64(sketch.shape[2] - 1)
    one, other = h & mask, (h >> np.uint64(32)) & mask
    estimate = np.int64(min(sketch[k, 0, one], sketch[k, 1, other]))
    sketch[k, 0, one] = max(np.int64(sketch[k, 0, one]), estimate + 1)
    sketch[k, 1, other] = max(np.int64(sketch[k, 1, other]), estimate + 1)
    total[k] += 1
    return float(estimate)


@kernel
def window_statistic(kind: int, values: F64, i: int, c: int) -> float:
    n, base, low, high, moment = 0, 0.0, 0.0, 0.0, 0.0
    for row in range(values.shape[1]):
        value = cleaned(values[i, row, c])
        if value == value:
            if n == 0:
                base, low, high = value, value, value
            n += 1
            low, high, moment = min(low, value), max(high, value), moment + (value - base)
    if n == 0:
        return math.nan
    if kind == Kind.min:
        return low
    if kind == Kind.max:
        return high
    mean = base + moment / n
    if kind == Kind.mean:
        return mean
    moment, square = 0.0, 0.0
    for row in range(values.shape[1]):
        value = cleaned(values[i, row, c])
        if value == value:
            moment += value - mean
            square += (value - mean) * (value - mean)
    return math.sqrt(max(square - moment * moment / n, 0.0) / n)


@kernel
def cycle(ts_ms: int, period_ms: int) -> float:
    return 2.0 * math.pi * (ts_ms % period_ms) / period_ms
