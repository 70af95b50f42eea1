"""How far the values of an event lie, together, from how the fields of the shard go together.

The distance is that of Mahalanobis over the deviations of the fields, per field: d² = zᵀ·P·z / fields, so 1 is usual
whatever their number. P is the inverse of their covariance over all keys, which is exponentially weighted, and drawn
towards a multiple of the identity (Ledoit & Wolf 2004, with a fixed share). A row beyond the edge is learnt with the
weight edge² / d², so no event moves it farther than one at the edge does (Maronna 1976).
"""

from __future__ import annotations

import math

import numpy as np

from stream_ad.batch import F64, I64
from stream_ad.fold.features.figures import counted
from stream_ad.fold.features.moments import DEVIATION, MEAN, POOL_COUNT
from stream_ad.kernel import inlined, kernel

CLIP = 25.0  # deviations
EDGE = 3.0
PRIOR_ROWS = 50.0  # weight of "the fields have nothing to do with each other"
SHRUNK, LEAST_VARIANCE = 0.05, 0.05  # share of the identity; of any direction: what never moved may move a little
FIRST_FIT, FIT_ROWS = 16, 256  # rows; the inverse is made anew after so many, and at first whenever they have doubled


@inlined
def squared_distance(
    deviates: F64, precision: F64, figures: F64, expectation: F64, pool: F64, direction: I64, room: F64
) -> float:
    """Fills in the deviations of the fields [d], 0 where a value is missing. NaN where all are, or nobody asks.

    After N values in the pool no deviation exceeds √N (Samuelson 1968).
    """
    present = 0
    square = 0.0
    if len(precision):
        for c in range(len(deviates)):
            mean = expectation[c, MEAN]
            deviation = (counted(figures[c], mean, direction[c], room[c]) - mean) / expectation[c, DEVIATION]
            there = deviation == deviation
            bound = min(CLIP, math.sqrt(pool[c, POOL_COUNT]))
            deviates[c] = min(max(deviation, -bound), bound) if there else 0.0
            present += 1 if there else 0
        for c in range(len(deviates)):
            row = 0.0
            for e in range(len(deviates)):
                row += precision[0, c, e] * deviates[e]
            square += row * deviates[c]
    return max(square / len(deviates), 0.0) if present else math.nan


@inlined
def learn_joint(covariance: F64, precision: F64, joint_rows: I64, deviates: F64, square: float, floor: float) -> None:
    """Learns an event whose deviations and distance `squared_distance` gave; none where that is NaN."""
    if math.isnan(square):
        return
    joint_rows[0] += 1
    rows = joint_rows[0]
    alpha = max(1.0 / (rows + PRIOR_ROWS), floor)
    weight = min(1.0, EDGE * EDGE / square) if square > 0.0 else 1.0
    for c in range(len(deviates)):
        for e in range(len(deviates)):
            covariance[0, c, e] += alpha * (weight * deviates[c] * deviates[e] - covariance[0, c, e])
    if rows % FIT_ROWS == 0 or (rows >= FIRST_FIT and rows & (rows - 1) == 0):
        fit(covariance[0], precision[0])


@kernel
def fit(covariance: F64, precision: F64) -> None:
    """The inverse, by the factor of Cholesky: the same bits on every machine."""
    d = len(covariance)
    variance = 0.0
    for c in range(d):
        variance += covariance[c, c] / d
    factor, inverse = np.zeros((d, d)), np.zeros((d, d))
    for i in range(d):
        for j in range(i + 1):
            rest = (1.0 - SHRUNK) * covariance[i, j]
            rest += SHRUNK * variance + LEAST_VARIANCE if i == j else 0.0
            for k in range(j):
                rest -= factor[i, k] * factor[j, k]
            factor[i, j] = math.sqrt(rest) if i == j else rest / factor[j, j]
    for c in range(d):
        for i in range(c, d):
            rest = 1.0 if i == c else 0.0
            for k in range(c, i):
                rest -= factor[i, k] * inverse[k, c]
            inverse[i, c] = rest / factor[i, i]
    for i in range(d):
        for j in range(d):
            total = 0.0
            for k in range(max(i, j), d):
                total += inverse[k, i] * inverse[k, j]
            precision[i, j] = total
