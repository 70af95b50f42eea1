"""The loops of the statistical scorer: rows are columns of a block, so each is a lane of the processor's vectors.

Each row is computed by itself, in one order of operations, so its result does not depend on its neighbours.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_ad.batch import F32, F64, I32, I64
from stream_ad.kernel import kernel
from stream_ad.score.deviation_kernel import CLIP, Roles, deviate
from stream_ad.score.reconstruction.kernels import BLOCK_ROWS, LIMIT, turn

OFFSET = 0.3  # of the logarithm of a mean deviation, so that small ones do not count
PRODUCT_LAGS = 64  # of means between 0.3 and 25.3: their product is far from what a double cannot hold


class Parts(NamedTuple):
    """What a score is made of; rows are columns."""

    deviation: F64  # [f,b]  of the newest lag; NaN = not judged
    expected: F64  # [f,b]  of the newest lag
    newest: F64  # [g,b]  level of the newest lag, by each group of features; -inf where nothing is judged
    levels: F64  # [w,b]  of each lag, by its standard features alone; 0 where it has none


@kernel
def statistical_score(x: F32, w: int, roles: Roles, out: F32) -> None:
    """x [n,w*f] -> out [n]; 0 where there is nothing to compare with."""
    n, d = x.shape
    lanes, parts = np.empty((d, BLOCK_ROWS), np.float32), _empty(d // w, w, len(roles.newest), BLOCK_ROWS)
    others = np.empty(BLOCK_ROWS)
    centre, spread, share = roles.both[0], roles.both[1], roles.share
    for first in range(0, n, BLOCK_ROWS):
        count = min(BLOCK_ROWS, n - first)
        turn(x[first : first + count], lanes)
        deviate(lanes, count, w, roles, parts.deviation, parts.expected)
        _newest_levels(parts.deviation, count, roles, parts.newest)
        _other_levels(lanes, count, w, roles, others)
        for i in range(count):
            newest = parts.newest[0, i]
            for g in range(1, len(roles.newest)):
                newest = max(newest, parts.newest[g, i])
            score = (newest + share * others[i] - centre) / spread
            score = min(max(score, -np.float64(LIMIT)), np.float64(LIMIT)) if np.isfinite(score) else 0.0
            out[first + i] = np.float32(score)


@kernel
def parts_of(x: F32, w: int, roles: Roles) -> Parts:
    """x [n,w*f] -> the parts of n scores."""
    n, d = x.shape
    lanes, parts = np.empty((d, n), np.float32), _empty(d // w, w, len(roles.newest), n)
    turn(x, lanes)
    deviate(lanes, n, w, roles, parts.deviation, parts.expected)
    _newest_levels(parts.deviation, n, roles, parts.newest)
    _all_levels(lanes, n, w, roles, parts.levels)
    return parts


@kernel
def _empty(f: int, w: int, groups: int, rows: int) -> Parts:
    return Parts(np.empty((f, rows)), np.empty((f, rows)), np.empty((groups, rows)), np.empty((w, rows)))


@kernel
def _newest_levels(deviation: F64, n: int, roles: Roles, out: F64) -> None:
    """deviation [f,b] -> the level of the newest lag [g,b]; -inf where nothing is judged."""
    judged = np.zeros(out.shape, np.int64)
    for g in range(len(out)):
        for i in range(n):
            out[g, i] = 0.0
    for j in range(len(deviation)):
        g = roles.group[j]
        if g < 0:
            continue
        for i in range(n):
            square = deviation[j, i] * deviation[j, i]
            there = square == square
            out[g, i] += square * square if there else 0.0
            judged[g, i] += there
    for g in range(len(out)):
        for i in range(n):
            out[g, i] = _level(out[g, i], judged[g, i], roles.newest[g]) if judged[g, i] else -np.inf


@kernel
def _level(power: Any, count: Any, standardised: Any) -> Any:
    """The fourth power's mean over `count` features, as a logarithm, in standard deviations."""
    return (math.log(math.sqrt(math.sqrt(power / count)) + OFFSET) - standardised[0]) / standardised[1]


@kernel
def _powers(x: F32, n: int, lag: int, f: int, standard: I64, power: F64, judged: I32) -> None:
    """The sum over the standard features of a lag of their fourth powers, and how many there are, [b] both."""
    for i in range(n):
        power[i], judged[i] = 0.0, 0
    for j in standard:
        for i in range(n):
            value: Any = abs(np.float64(x[lag * f + j, i]))
            there = value == value
            value = CLIP if value > CLIP else value
            square = value * value
            power[i] += square * square if there else 0.0
            judged[i] += np.int32(there)


@kernel
def _all_levels(x: F32, n: int, w: int, roles: Roles, out: F64) -> None:
    """x [w*f,b] -> the level of each lag, [w,b]; 0 where it has no standard feature."""
    f = len(x) // w
    judged = np.empty(n, np.int32)
    for lag in range(w):
        _powers(x, n, lag, f, roles.standard, out[lag], judged)
        for i in range(n):
            out[lag, i] = _level(out[lag, i], judged[i], roles.around) if judged[i] else 0.0


@kernel
def _other_levels(x: F32, n: int, w: int, roles: Roles, out: F64) -> None:
    """x [w*f,b] -> the sum of the levels of a row without the highest, [b], by logarithms of products of means."""
    f = len(x) // w
    centre, spread = roles.around[0], roles.around[1]
    zero = np.exp(centre)  # the mean of a lag whose level is 0
    product, highest = np.ones(n), np.zeros(n)
    power, judged = np.empty(n), np.empty(n, np.int32)
    for i in range(n):
        out[i] = 0.0
    for lag in range(w):
        _powers(x, n, lag, f, roles.standard, power, judged)
        for i in range(n):
            mean = np.sqrt(np.sqrt(power[i] / max(judged[i], 1))) + OFFSET if judged[i] else zero
            product[i] *= mean / zero
            highest[i] = mean if mean > highest[i] else highest[i]
        if lag % PRODUCT_LAGS == PRODUCT_LAGS - 1 or lag == w - 1:
            for i in range(n):
                out[i] += math.log(product[i]) / spread
                product[i] = 1.0
    for i in range(n):
        out[i] -= (math.log(highest[i]) - centre) / spread
