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
    levels: F64  # [w,b]  of each lag, by its standard features and those beside; 0 where it has none
    beside: F64  # [w,b]  what the features beside add to them


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
        _newest_levels(parts, count, roles)
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
    _newest_levels(parts, n, roles)
    _all_levels(lanes, n, w, roles, parts.levels, parts.beside)
    return parts


@kernel
def _empty(f: int, w: int, groups: int, rows: int) -> Parts:
    deviation, expected, newest = np.empty((f, rows)), np.empty((f, rows)), np.empty((groups, rows))
    return Parts(deviation, expected, newest, np.empty((w, rows)), np.empty((w, rows)))


@kernel
def _newest_levels(parts: Parts, n: int, roles: Roles) -> None:
    """parts.deviation [f,b] -> the level of the newest lag [g,b]; -inf where nothing is judged."""
    deviation, out = parts.deviation, parts.newest
    judged, beside, others = np.zeros(out.shape, np.int64), np.zeros(n), np.zeros(n, np.int64)
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
    for j in roles.beside:
        for i in range(n):
            square = deviation[j, i] * deviation[j, i]
            there = square == square
            beside[i] += square * square if there else 0.0
            others[i] += there
    for i in range(n):
        beside[i] = _logarithm(beside[i], others[i]) if others[i] else roles.centre[1]
    for g in range(len(out)):
        for i in range(n):
            level = _logarithm(out[g, i], judged[g, i]) if judged[g, i] else -np.inf
            if others[i] and not judged[g, i]:
                level = roles.centre[0]
            out[g, i] = (level + beside[i] - roles.newest[g][0]) / roles.newest[g][1]


@kernel
def _logarithm(power: Any, count: Any) -> Any:
    """Of the fourth power's mean over `count` features."""
    return math.log(math.sqrt(math.sqrt(power / count)) + OFFSET)


@kernel
def _powers(x: F32, n: int, lag: int, f: int, places: I64, power: F64, judged: I32) -> None:
    """The sum over these features of a lag of their fourth powers, and how many there are, [b] both."""
    for i in range(n):
        power[i], judged[i] = 0.0, 0
    for j in places:
        for i in range(n):
            value: Any = abs(np.float64(x[lag * f + j, i]))
            there = value == value
            value = CLIP if value > CLIP else value
            square = value * value
            power[i] += square * square if there else 0.0
            judged[i] += np.int32(there)


@kernel
def _all_levels(x: F32, n: int, w: int, roles: Roles, out: F64, beside: F64) -> None:
    """x [w*f,b] -> the level of each lag, and the part that the features beside have in it, [w,b] both; 0 where there
    are no features."""
    f = len(x) // w
    power, judged = np.empty(n), np.empty(n, np.int32)
    for lag in range(w):
        _powers(x, n, lag, f, roles.standard, power, judged)
        for i in range(n):
            out[lag, i] = _logarithm(power[i], judged[i]) - roles.centre[0] if judged[i] else 0.0
        _powers(x, n, lag, f, roles.beside, power, judged)
        for i in range(n):
            beside[lag, i] = (_logarithm(power[i], judged[i]) - roles.centre[1]) / roles.around if judged[i] else 0.0
            out[lag, i] = out[lag, i] / roles.around + beside[lag, i]


@kernel
def _other_levels(x: F32, n: int, w: int, roles: Roles, out: F64) -> None:
    """x [w*f,b] -> the sum of the levels of a row without the highest, [b], by logarithms of products of means."""
    f = len(x) // w
    zero, zero_beside = np.exp(roles.centre[0]), np.exp(roles.centre[1])  # the means of a lag whose level is 0
    product, highest = np.ones(n), np.zeros(n)
    power, judged, ratio = np.empty(n), np.empty(n, np.int32), np.empty(n)
    for i in range(n):
        out[i] = 0.0
    for lag in range(w):
        _powers(x, n, lag, f, roles.standard, power, judged)
        for i in range(n):
            ratio[i] = (np.sqrt(np.sqrt(power[i] / max(judged[i], 1))) + OFFSET) / zero if judged[i] else 1.0
        if len(roles.beside):
            _powers(x, n, lag, f, roles.beside, power, judged)
            for i in range(n):
                mean = np.sqrt(np.sqrt(power[i] / max(judged[i], 1))) + OFFSET
                ratio[i] *= mean / zero_beside if judged[i] else 1.0
        for i in range(n):
            product[i] *= ratio[i]
            highest[i] = ratio[i] if ratio[i] > highest[i] else highest[i]
        if lag % PRODUCT_LAGS == PRODUCT_LAGS - 1 or lag == w - 1:
            for i in range(n):
                out[i] += math.log(product[i]) / roles.around
                product[i] = 1.0
    for i in range(n):
        out[i] -= math.log(highest[i]) / roles.around
