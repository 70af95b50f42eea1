"""The loops of scoring on the CPU, one pass each instead of torch's eight.

Every row is worked out by itself, in the same order of operations wherever it lies, so its
result does not depend on its neighbours. They release the GIL.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from stream_ad.batch import F32, I32, I64
from stream_ad.compiled import cached

LINEAR = np.float32(5.0)  # scaled values are compressed beyond this
HUGE = np.float32(1e30)
ZERO = np.float32(0.0)
INFINITE = np.float32(np.inf)
NAN = np.float32(np.nan)
LIMIT = np.float32(50.0)  # scores are within +-LIMIT
ERROR_FLOOR = np.float32(1e-6)
BLOCK_ROWS = 128  # activations of so many rows lie in the first caches


@cached
@numba.njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
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
                    out[i, j] = math.copysign(LINEAR + np.log1p(min(abs(z), HUGE) - LINEAR), z)


@cached
@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
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


@cached
@numba.njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def reconstruction_score(
    x: F32, centre: F32, factor: F32, layers: I64, weights: F32, share: F32, constants: F32, out: F32
) -> None:
    """x [n,d] -> out [n], a block of rows at a time: squashed, through the layers, their error calibrated.

    `layers` [l,3]: width in, width out, 1 = ReLU follows; `weights`: of each layer [in,out], then [out] of bias.
    """
    n, d = x.shape
    for first in range(0, n, BLOCK_ROWS):
        rows = x[first : first + BLOCK_ROWS]
        z = np.zeros((BLOCK_ROWS, d), np.float32)  # filled up: products of one shape add in one order
        squash(rows, centre, factor, z)
        y, at = z, 0
        for k in range(len(layers)):
            wide, narrow = layers[k, 0], layers[k, 1]
            weight = weights[at : at + wide * narrow].reshape((wide, narrow))
            bias = weights[at + wide * narrow : at + wide * narrow + narrow]
            at += (wide + 1) * narrow
            floor = ZERO if layers[k, 2] else -INFINITE
            y = np.dot(y, weight)
            for i in range(len(y)):
                for j in range(narrow):
                    value = y[i, j] + bias[j]
                    y[i, j] = floor if value < floor else value
        row_error(rows, z, y, share, out[first : first + BLOCK_ROWS])
    for i in range(n):
        score = (np.log(out[i] + ERROR_FLOOR) - constants[0]) / constants[1]
        out[i] = min(max(score, -LIMIT), LIMIT) if score == score else ZERO


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


@cached
@numba.njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _sort_columns(values: F32, pairs: I32) -> None:
    """values [p,f]: sorts every column; branch-free, so that the f columns go through SIMD lanes together."""
    f = values.shape[1]
    for p in range(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        for j in range(f):
            low, high = values[a, j], values[b, j]
            swap = high < low
            values[a, j] = high if swap else low
            values[b, j] = low if swap else high


@cached
@numba.njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def history(x: F32, pairs: I32, count: I32, median: F32, mad: F32, mean_ad: F32) -> None:
    """x [n,w,f] -> of each feature's lags before the newest, all [n,f]:

    how many are present, their median, the median and the mean of the absolute deviations from
    it (0 where none is present). `pairs` are `comparators(w - 1)`.
    """
    n, w, f = x.shape
    lags = w - 1
    values = np.empty((lags, f), np.float32)
    for i in range(n):
        for j in range(f):
            count[i, j] = 0
        for lag in range(lags):
            for j in range(f):
                v = x[i, lag, j]
                there = v == v
                values[lag, j] = v if there else INFINITE
                count[i, j] += np.int32(there)
        _sort_columns(values, pairs)
        for j in range(f):
            c = count[i, j]
            median[i, j] = (
                (values[(c - 1) // 2, j] * np.float32(0.5) + values[c // 2, j] * np.float32(0.5)) if c else ZERO
            )
        for j in range(f):
            mean_ad[i, j] = ZERO
        for lag in range(lags):
            for j in range(f):
                v = abs(x[i, lag, j] - median[i, j])
                there = v == v
                values[lag, j] = v if there else INFINITE
                mean_ad[i, j] += v if there else ZERO
        _sort_columns(values, pairs)
        for j in range(f):
            c = count[i, j]
            mad[i, j] = (values[(c - 1) // 2, j] * np.float32(0.5) + values[c // 2, j] * np.float32(0.5)) if c else ZERO
            mean_ad[i, j] = mean_ad[i, j] / np.float32(c) if c else ZERO
