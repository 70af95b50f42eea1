"""The loops of the Mahalanobis distance and of PCA on the CPU: rows are columns of a block, so each is a lane.

Each row is computed by itself, in one order of operations, so its result does not depend on its neighbours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream_ad.batch import F32, F64, I32
from stream_ad.kernel import kernel
from stream_ad.score.reconstruction.kernels import BLOCK_ROWS, ERROR_FLOOR, LIMIT, LINEAR, ZERO, compressed, turn

MOST = 1e3  # scaled deviations


class Ellipsoid(NamedTuple):
    """The shape of the training rows, with the scaling before it and the calibration after it."""

    centre: F32  # [f]
    spread: F32  # [f]
    precision: F64  # [f,f]
    constants: F32  # [2]  of the calibration


class Subspace(NamedTuple):
    """What two indices of T² and Q weigh, with the scaling before them and the calibration after them."""

    centre: F32  # [f]
    spread: F32  # [f]
    points: F64  # [f,f]  of the newest lag
    stretches: F64  # [f,f]  of the mean of the lags
    constants: F32  # [2]  of the calibration


@kernel
def mahalanobis_score(x: F32, w: int, shape: Ellipsoid, out: F32) -> None:
    """x [n,w*f] -> out [n]: the geometric mean of two distances, of the newest lag and of the mean of the lags,
    calibrated; 0 where the newest lag is missing altogether."""
    n, d = x.shape
    f = d // w
    constants = shape.constants
    lanes, present = np.empty((d, BLOCK_ROWS), np.float32), np.empty(BLOCK_ROWS, np.int32)
    newest, mean = np.empty((f, BLOCK_ROWS)), np.empty((f, BLOCK_ROWS))
    points, stretches = np.empty(BLOCK_ROWS), np.empty(BLOCK_ROWS)
    for first in range(0, n, BLOCK_ROWS):
        count = min(BLOCK_ROWS, n - first)
        turn(x[first : first + count], lanes)
        _scale(lanes, count, w, shape.centre, shape.spread, newest, mean, present)
        _distance(newest, count, shape.precision, points)
        _distance(mean, count, shape.precision, stretches)
        _calibrate(points, stretches, present, constants, out[first : first + count])


@kernel
def pca_score(x: F32, w: int, shape: Subspace, out: F32) -> None:
    """x [n,w*f] -> out [n]: the geometric mean of two indices, of the newest lag and of the mean of the lags,
    calibrated; 0 where the newest lag is missing altogether."""
    n, d = x.shape
    f = d // w
    constants = shape.constants
    lanes, present = np.empty((d, BLOCK_ROWS), np.float32), np.empty(BLOCK_ROWS, np.int32)
    newest, mean = np.empty((f, BLOCK_ROWS)), np.empty((f, BLOCK_ROWS))
    points, stretches = np.empty(BLOCK_ROWS), np.empty(BLOCK_ROWS)
    for first in range(0, n, BLOCK_ROWS):
        count = min(BLOCK_ROWS, n - first)
        turn(x[first : first + count], lanes)
        _scale(lanes, count, w, shape.centre, shape.spread, newest, mean, present)
        _compress(newest, count)
        _compress(mean, count)
        _distance(newest, count, shape.points, points)
        _distance(mean, count, shape.stretches, stretches)
        _calibrate(points, stretches, present, constants, out[first : first + count])


@kernel
def _calibrate(points: F64, stretches: F64, present: I32, constants: F32, out: F32) -> None:
    """Two distances [b] -> the score of their geometric mean, out [n]."""
    for i in range(len(out)):
        error = np.float32(np.sqrt(points[i] * stretches[i]))
        score = (np.log(error + ERROR_FLOOR) - constants[0]) / constants[1]
        out[i] = min(max(score, -LIMIT), LIMIT) if present[i] else ZERO


@kernel
def _compress(z: F64, n: int) -> None:
    """The first n columns of z [f,b], logarithmic beyond +-5."""
    for j in range(len(z)):
        for i in range(n):
            if abs(z[j, i]) > LINEAR:
                z[j, i] = compressed(z[j, i])


@kernel
def _scale(x: F32, n: int, w: int, centres: F32, spreads: F32, newest: F64, mean: F64, present: I32) -> None:
    """x [w*f,b] -> newest and mean [f,b], scaled, a missing value being 0; how many the newest lag has, [b]."""
    f = len(newest)
    present[:n] = 0
    for j in range(f):
        centre, spread = centres[j], spreads[j]
        for i in range(n):
            mean[j, i] = 0.0
        for lag in range(w):
            for i in range(n):
                z: Any = np.float64((x[lag * f + j, i] - centre) / spread)
                z = z if z == z else 0.0
                z = MOST if z > MOST else z
                z = -MOST if z < -MOST else z
                mean[j, i] += z
                newest[j, i] = z
        for i in range(n):
            mean[j, i] /= w
            present[i] += np.int32(x[(w - 1) * f + j, i] == x[(w - 1) * f + j, i])


@kernel
def _distance(z: F64, n: int, precision: F64, out: F64) -> None:
    """z [f,b] -> out [b]: squared, per feature."""
    f = len(z)
    product = np.empty(n)
    for i in range(n):
        out[i] = 0.0
    for a in range(f):
        for i in range(n):
            product[i] = 0.0
        for b in range(f):
            for i in range(n):
                product[i] += precision[b, a] * z[b, i]
        for i in range(n):
            out[i] += product[i] * z[a, i]
    for i in range(n):
        out[i] = max(out[i], 0.0) / f
