"""The loops of scoring on the CPU, one pass each instead of torch's eight.

Each row is computed by itself, in one order of operations, so its result does not depend on its neighbours. BLAS does
not promise that: its kernels treat the last rows of a product in another way, which on some processors changes bits.
These kernels release the GIL.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from stream_ad.batch import F32, I64
from stream_ad.kernel import kernel

LINEAR = np.float32(5.0)  # scaled values are compressed beyond this
HUGE = np.float32(1e30)
ZERO = np.float32(0.0)
INFINITE = np.float32(np.inf)
NAN = np.float32(np.nan)
LIMIT = np.float32(50.0)  # scores are within +-LIMIT
ERROR_FLOOR = np.float32(1e-6)
BLOCK_ROWS = 128  # the processor's first caches hold the activations of so many rows


class Network(NamedTuple):
    """Dense layers, with the scaling before them and the calibration after them."""

    centre: F32  # [d]
    factor: F32  # [d]
    layers: I64  # [layers,3]  width in, width out, 1 = ReLU follows
    weights: F32  # of all layers in a row, each [out,in] and then [out] of bias
    share: F32  # [d]  weight of an entry's error
    constants: F32  # [2]  of the calibration


@kernel
def compressed(z: Any) -> Any:
    """What `squash` makes of a scaled value beyond +-5."""
    return math.copysign(LINEAR + np.log1p(min(abs(z), HUGE) - LINEAR), z)


@kernel
def squash(x: F32, centre: F32, factor: F32, out: F32) -> None:
    """x [n,d], centre and factor [d] -> out [n,d]: scaled, logarithmic beyond +-5, 0 where NaN."""
    n, d = x.shape
    for i in range(n):
        beyond = np.int32(0)
        for j in range(d):
            z = (x[i, j] - centre[j]) * factor[j]
            z = z if z == z else ZERO
            out[i, j] = z
            beyond += np.int32(abs(z) > LINEAR)
        if beyond:  # rare, so that log1p is kept out of the loop above, which is vectorised
            for j in range(d):
                z = out[i, j]
                if abs(z) > LINEAR:
                    out[i, j] = compressed(z)


@partial(kernel, fastmath={"reassoc", "contract"})
def row_error(x: F32, z: F32, y: F32, weight: F32, out: F32) -> None:
    """x, z, y [n,d], weight [d] -> out [n]: weighted mean of (y-z)^2 where x is present, NaN where nothing is."""
    n, d = x.shape
    for i in range(n):
        error, total = ZERO, ZERO
        for j in range(d):
            part = y[i, j] - z[i, j]
            share = weight[j] if x[i, j] == x[i, j] else ZERO
            error += part * part * share
            total += share
        error = error if error == error else INFINITE  # a reconstruction that overflowed
        out[i] = error / total if total > ZERO else NAN


@kernel
def reconstruction_score(x: F32, network: Network, out: F32) -> None:
    """x [n,d] -> out [n], a block of rows at a time: squashed, through the layers, their error calibrated.

    Within a block rows are columns: each is a lane of its own in the processor's vectors.
    """
    # taken before the loops: within them, numba would count a reference each time
    layers, weights, constants = network.layers, network.weights, network.constants
    n, d = x.shape
    widest = max(d, layers[:, 1].max())
    rows, z = np.empty((d, BLOCK_ROWS), np.float32), np.empty((d, BLOCK_ROWS), np.float32)
    # one line more than the widest layer: `_dense` works out two outputs at once
    activations = np.empty((2, widest + 1, BLOCK_ROWS), np.float32)
    for first in range(0, n, BLOCK_ROWS):
        count = min(BLOCK_ROWS, n - first)
        turn(x[first : first + count], rows)
        _squash_lanes(rows, count, network.centre, network.factor, z)
        y, at = z, 0
        for k in range(len(layers)):
            wide, narrow = layers[k, 0], layers[k, 1]
            weight = weights[at : at + wide * narrow].reshape((narrow, wide))
            bias = weights[at + wide * narrow : at + (wide + 1) * narrow]
            at += (wide + 1) * narrow
            _dense(y, count, weight, bias, ZERO if layers[k, 2] else -INFINITE, activations[k % 2])
            y = activations[k % 2]
        _error_lanes(rows, z, y, count, network.share, out[first : first + count])
    for i in range(n):
        score = (np.log(out[i] + ERROR_FLOOR) - constants[0]) / constants[1]
        out[i] = min(max(score, -LIMIT), LIMIT) if score == score else ZERO


@kernel
def turn(x: F32, out: F32) -> None:
    """x [n,d] -> out [d,>=n]."""
    n, d = x.shape
    for first in range(0, d, 16):
        for i in range(n):
            for j in range(first, min(first + 16, d)):
                out[j, i] = x[i, j]


@kernel
def _squash_lanes(x: F32, n: int, centre: F32, factor: F32, out: F32) -> None:
    """`squash` of the first n columns of x [d,b]."""
    for j in range(len(x)):
        beyond = np.int32(0)
        for i in range(n):
            z = (x[j, i] - centre[j]) * factor[j]
            z = z if z == z else ZERO
            out[j, i] = z
            beyond += np.int32(abs(z) > LINEAR)
        if beyond:
            for i in range(n):
                z = out[j, i]
                if abs(z) > LINEAR:
                    out[j, i] = compressed(z)


@kernel
def _dense(x: F32, n: int, weight: F32, bias: F32, floor: np.float32, out: F32) -> None:
    """The first n columns of x [in,b], weight [out,in], bias [out] -> those of out [>out,b], not below `floor`.

    Multiplied and added in one order for every column, and never fused, so the bits are the same wherever a
    column stands and whatever the processor. Eight inputs are added to two outputs before these are stored.
    """
    outputs, inputs = weight.shape
    for j in range(0, outputs, 2):
        v, w = weight[j], weight[min(j + 1, outputs - 1)]  # of an odd last output twice, the second for nothing
        y, z = out[j], out[j + 1]
        for i in range(n):
            y[i] = bias[j]
            z[i] = bias[min(j + 1, outputs - 1)]
        k = 0
        while k + 8 <= inputs:
            v0, v1, v2, v3, v4, v5, v6, v7 = v[k], v[k + 1], v[k + 2], v[k + 3], v[k + 4], v[k + 5], v[k + 6], v[k + 7]
            w0, w1, w2, w3, w4, w5, w6, w7 = w[k], w[k + 1], w[k + 2], w[k + 3], w[k + 4], w[k + 5], w[k + 6], w[k + 7]
            x0, x1, x2, x3, x4, x5, x6, x7 = x[k], x[k + 1], x[k + 2], x[k + 3], x[k + 4], x[k + 5], x[k + 6], x[k + 7]
            for i in range(n):
                a0, a1, a2, a3, a4, a5, a6, a7 = x0[i], x1[i], x2[i], x3[i], x4[i], x5[i], x6[i], x7[i]
                y[i] = y[i] + v0 * a0 + v1 * a1 + v2 * a2 + v3 * a3 + v4 * a4 + v5 * a5 + v6 * a6 + v7 * a7
                z[i] = z[i] + w0 * a0 + w1 * a1 + w2 * a2 + w3 * a3 + w4 * a4 + w5 * a5 + w6 * a6 + w7 * a7
            k += 8
        while k < inputs:
            for i in range(n):
                y[i] += v[k] * x[k, i]
                z[i] += w[k] * x[k, i]
            k += 1
        for i in range(n):
            y[i] = floor if y[i] < floor else y[i]
            z[i] = floor if z[i] < floor else z[i]


@kernel
def _error_lanes(x: F32, z: F32, y: F32, n: int, weight: F32, out: F32) -> None:
    """`row_error` of the first n columns of x, z, y [d,b]."""
    total = np.zeros(n, np.float32)
    for i in range(n):
        out[i] = ZERO
    for j in range(len(x)):
        for i in range(n):
            part = y[j, i] - z[j, i]
            share = weight[j] if x[j, i] == x[j, i] else ZERO
            out[i] += part * part * share
            total[i] += share
    for i in range(n):
        error = out[i] if out[i] == out[i] else INFINITE  # a reconstruction that overflowed
        out[i] = error / total[i] if total[i] > ZERO else NAN
