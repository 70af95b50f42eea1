"""How far the newest lag of a window is from what was expected of it: rows are columns of a block, so each is a lane of
the processor's vectors.

Each row is computed by itself, in one order of operations, so its result does not depend on its neighbours.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_ad.batch import F32, F64, I32, I64
from stream_ad.kernel import kernel
from stream_ad.score.reconstruction.kernels import HUGE, INFINITE, ZERO

MIN_LAGS = 4
CLIP = 25.0  # deviations at most, so that one feature cannot hide how many others agree
CONSTANT_CLIP = CLIP / 2  # of a value that never moved only that is known
HALF = np.float32(0.5)
# of the mean of the two spreads, as normal standard deviations
MAD_SHARE, MEAN_AD_SHARE = np.float32(0.5 * 1.4826), np.float32(0.5 * 1.2533)
STILL, STILL_SPREAD, LEAST_SPREAD = np.float32(1e-6), np.float32(0.05), np.float32(1e-3)
IMAGINED_LAGS = 2.0  # in which an indicator is 1, so that a first event is no surprise


class Roles(NamedTuple):
    """Which features are compared how, and how levels are standardised."""

    standard: I64  # features that are deviates already
    beside: I64  # those of a witness whose level adds to that of the others
    joint: I64  # the distance that they have together, or none
    measure: I64  # features that are compared with their lags
    indicator: I64  # features that are 0 or 1
    pairs: I32  # `comparators` of the lags before the newest
    group: I64  # [f]  features whose newest lag has a level together; -1 = it has none
    centre: F64  # [2]  of the logarithms that add up to the level of any lag: of standard features, of those beside
    newest: F64  # [g,2]  centre and spread of that level
    around: float  # spread of the level of any lag
    both: F64  # [2]  of the score
    share: float  # of the level of one lag in the score


class Past(NamedTuple):
    """Of the lags before the newest, a row each; 0 where none is present."""

    present: I32  # [b]  how many
    median: F32  # [b]
    mad: F32  # [b]  median of the absolute deviations from the median
    mean_ad: F32  # [b]  their mean


def comparators(rows: int) -> I32:
    """[p,2] pairs that sort `rows` values when compared and exchanged in order (Batcher 1968)."""
    pairs: list[tuple[int, int]] = []
    span = 1
    while span < rows:
        step = span
        while step >= 1:
            for start in range(step % span, rows - step, 2 * step):
                block = range(start, min(start + step, rows - step))
                pairs += [(row, row + step) for row in block if row // (2 * span) == (row + step) // (2 * span)]
            step //= 2
        span *= 2
    return np.array(pairs, np.int32).reshape(-1, 2)


@kernel
def deviate(x: F32, n: int, w: int, roles: Roles, deviation: F64, expected: F64) -> None:
    """x [w*f,b] -> deviation of the newest lag, and what was expected of it, [f,b] both."""
    f = len(x) // w
    last = (w - 1) * f
    deviation[:] = np.nan
    for j in range(f):
        for i in range(n):
            value = x[last + j, i]
            expected[j, i] = _within(value) if value == value else 0.0
    for places, usual in ((roles.standard, 0.0), (roles.beside, 0.0), (roles.joint, 1.0)):
        for j in places:
            for i in range(n):
                value = np.float64(x[last + j, i])
                deviation[j, i] = min(max(value, -CLIP), CLIP) if value == value else np.nan
                expected[j, i] = usual
    values = np.empty((max(w - 1, 1), x.shape[1]), np.float32)
    past = Past(
        np.empty(x.shape[1], np.int32),
        np.empty(x.shape[1], np.float32),
        np.empty(x.shape[1], np.float32),
        np.empty(x.shape[1], np.float32),
    )
    for j in roles.measure:
        _compare(x, j, n, w, roles.pairs, values, past)
        for i in range(n):
            if past.present[i]:
                expected[j, i] = past.median[i]
            deviation[j, i] = _compared(x[last + j, i], past.present[i], past.median[i], past.mad[i], past.mean_ad[i])
    total, present = np.empty(n), np.empty(n)
    for j in roles.indicator:
        for i in range(n):
            total[i], present[i] = IMAGINED_LAGS, IMAGINED_LAGS
        for lag in range(w - 1):
            for i in range(n):
                value = x[lag * f + j, i]
                there = value == value
                total[i] += np.float64(_within(value)) if there else 0.0
                present[i] += 1.0 if there else 0.0
        for i in range(n):
            usual = total[i] / present[i]
            expected[j, i] = usual
            value = x[last + j, i]
            if value == value:
                deviation[j, i] = _normal_of_share(usual) if np.float64(value) > usual else 0.0


@kernel
def _within(value: Any) -> Any:
    """At most +-HUGE, so that sums stay finite. Such choices are vectorised, `min` and `max` are not."""
    value = HUGE if value > HUGE else value
    return -HUGE if value < -HUGE else value


@kernel
def _compare(x: F32, feature: int, n: int, w: int, pairs: I32, values: F32, past: Past) -> None:
    """x [w*f,b] -> the past of one feature; `values` [w-1,b] is for work."""
    f = len(x) // w
    past.present[:n] = 0
    past.mean_ad[:n] = ZERO
    for lag in range(w - 1):
        for i in range(n):
            v = x[lag * f + feature, i]
            there = v == v
            v = _within(v)
            values[lag, i] = v if there else INFINITE
            past.present[i] += np.int32(there)
    _sort_lanes(values, n, pairs)
    _middle(values, n, past.present, past.median)
    for lag in range(w - 1):
        for i in range(n):
            v = x[lag * f + feature, i]
            there = v == v
            v = abs(_within(v) - past.median[i])
            values[lag, i] = v if there else INFINITE
            past.mean_ad[i] += v if there else ZERO
    _sort_lanes(values, n, pairs)
    _middle(values, n, past.present, past.mad)
    for i in range(n):
        past.mean_ad[i] = past.mean_ad[i] / np.float32(past.present[i]) if past.present[i] else ZERO


@kernel
def _sort_lanes(values: F32, n: int, pairs: I32) -> None:
    """Sorts the first n columns of values [lags,b], branch-free."""
    for p in range(len(pairs)):
        low, high = values[pairs[p, 0]], values[pairs[p, 1]]
        for i in range(n):
            a, b = low[i], high[i]
            swap = b < a
            low[i] = b if swap else a
            high[i] = a if swap else b


@kernel
def _middle(values: F32, n: int, present: I32, out: F32) -> None:
    """Median [b] of the sorted columns of values [lags,b]; 0 where nothing is present."""
    for i in range(n):
        c = present[i]
        out[i] = values[(c - 1) // 2, i] * HALF + values[c // 2, i] * HALF if c else ZERO


@kernel
def _compared(value: Any, present: Any, median: Any, mad: Any, mean_ad: Any) -> Any:
    """The normal deviate of a value from its past, NaN where either is missing."""
    if present < MIN_LAGS or value != value:
        return np.nan
    spread: Any = MAD_SHARE * mad + MEAN_AD_SHARE * mean_ad
    still = spread <= STILL * abs(median)
    if still:
        spread = STILL_SPREAD * abs(median) + LEAST_SPREAD
    # few lags tell little about the spread
    spread *= np.float32(1.0) + np.float32(MIN_LAGS) / np.float32(present)
    deviation = np.float64((_within(value) - median) / spread)
    if still:
        return _normal_of_t(min(max(deviation, -CONSTANT_CLIP), CONSTANT_CLIP), present / 2)
    return _normal_of_t(deviation, present / 2)


@kernel
def _normal_of_t(t: Any, freedom: Any) -> Any:
    """The normal deviate that is as rare as a Student t (Wallace, Annals of Mathematical Statistics 1959).

    The spread above knows about as much as the standard deviation of half as many values.
    """
    freedom, t = max(freedom, 1.0), min(max(t, -np.float64(HUGE)), np.float64(HUGE))
    z = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return math.copysign(z, t)


@kernel
def _normal_of_share(share: Any) -> Any:
    """The two-sided normal deviate of an event that has this share: Abramowitz & Stegun 26.2.23 and Newton's steps."""
    if share >= 1.0:
        return 0.0
    t = math.sqrt(-2.0 * math.log(share / 2.0))
    z = t - (2.515517 + 0.802853 * t + 0.010328 * t * t) / (
        1.0 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t
    )
    for _ in range(2):
        density = math.exp(-0.5 * z * z) * math.sqrt(2.0 / math.pi)
        z += (math.erfc(z / math.sqrt(2.0)) - share) / density
    return max(z, 0.0)
