"""Corrects probabilities by how often they came true, for each key and for all of them.

Of a sound p-value, a share of q lies below q (recalibration: Kuleshov, Fenner and Ermon, ICML 2018). Below `tail.Q`:

* A key's p-values follow a power law, `p <= q` in `Q lift (q / Q)^(1 + bend)` of its rows. The estimate of the exponent
  is that of a truncated Pareto distribution (Aban, Meerschaert and Panorska, JASA 2006): rows beyond the hundredth
  part of Q, where anomalies lie, have no part in it. A prior of a few rows says that the p-values are sound.
* What the keys' corrections leave is corrected for all of them by a decayed histogram of half octaves. How many rows a
  half octave has, to how many it should have, is drawn to the ratio of the one before; beyond the last one, at 4e-5,
  the ratio stays what it is there. Of rows that come together, as all keys do after a pause of the feed, a few count.

Exponents, and the ratios of neighbouring half octaves, are bounded to what tails of real distributions do: anomalies
that lie apart from the normal rows do not correct themselves away. ADR 0021 has the measurement.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_ad.fold.thresholds.tail import Q
from stream_ad.kernel import kernel

_HALF_OCTAVES = 18
KEY = np.dtype(
    [
        ("rows", "f8"),  # decayed counts: of all rows
        ("tail", "f8"),  # of those with a p-value from Q / 100 to Q
        ("depth", "f8"),  # and their summed log(Q / p)
        ("lift", "f8"),  # what the correction at Q exceeds 1 by
        ("bend", "f8"),  # what the exponent exceeds 1 by
    ]
)
POOL = np.dtype(
    [
        ("rows", "f8"),  # decayed count
        ("since", "f8"),  # rows since the factors were set
        ("cut", "f8"),  # what the key's p-value that becomes the stated rate exceeds it by
        ("lift", "f8"),  # what the correction at Q exceeds 1 by
        ("lately", "f8", (_HALF_OCTAVES,)),  # rows in each half octave below Q since then
        ("count", "f8", (_HALF_OCTAVES,)),  # decayed counts of those before
        ("factor", "f8", (_HALF_OCTAVES + 1,)),  # logarithms of the correction at the ends of the half octaves
    ]
)

_DEEPEST = np.log(100.0)
_MOST = 3.0  # that a p-value at Q, or in a half octave, is multiplied or divided by
_BEND_MOST = 0.5  # that the exponent of a power law, or from one half octave to the next, differs from 1 by
_KEY_DECAY = 0.5 ** (1.0 / 3000.0)
_PRIOR_ROWS = 500.0
_PRIOR_TAIL = 20.0  # rows between Q / 100 and Q
_STEPS = 20  # of the bisection

_HALF_OCTAVE = 0.5 * np.log(2.0)
_GROWTH = np.exp(_BEND_MOST * _HALF_OCTAVE)
_POOL_HALF_LIFE_ROWS = 200_000.0
_POOL_PRIOR = 10.0  # rows of each half octave
_EVERY_ROWS = 500.0
_TOGETHER, _TOGETHER_DUE = 3.0, 10.0  # rows of a half octave count between two fits, and so many for each that is due


@kernel
def of_key(p: float, key: Any) -> float:
    """The p-value after the correction of its key."""
    if p < Q:
        return float(Q * (1.0 + key.lift) * np.exp((1.0 + key.bend) * np.log(p / Q)))
    return _body(p, key.lift)


@kernel
def _body(p: float, lift: float) -> float:
    """A p-value of Q and more, on the line through 1 and the corrected Q."""
    return float(1.0 - (1.0 - p) * (1.0 - Q * (1.0 + lift)) / (1.0 - Q))


@kernel
def _uncorrected_body(p: float, lift: float) -> float:
    return float(1.0 - (1.0 - p) * (1.0 - Q) / (1.0 - Q * (1.0 + lift)))


@kernel
def of_pool(p: float, pool: Any) -> float:
    """The p-value, corrected for its key, after the correction for all of them."""
    if p >= Q:
        return _body(p, pool.lift)
    place = np.log(Q / p) / _HALF_OCTAVE
    if place >= _HALF_OCTAVES:
        return float(p * np.exp(pool.factor[_HALF_OCTAVES]))
    octave = int(place)
    part = place - octave
    return float(p * np.exp((1.0 - part) * pool.factor[octave] + part * pool.factor[octave + 1]))


@kernel
def uncorrected(rate: float, key: Any, pool: Any) -> float:
    """The p-value before both corrections that is `rate` after them."""
    p, at_q = rate + pool.cut, Q * (1.0 + key.lift)
    if p < at_q:
        return float(Q * np.exp(np.log(p / at_q) / (1.0 + key.bend)))
    return _uncorrected_body(p, key.lift)


@kernel
def forget(key: Any) -> None:
    key.rows = key.tail = key.depth = key.lift = key.bend = 0.0


@kernel
def count(uncorrected: float, corrected: float, rate: float, key: Any, pool: Any) -> None:
    """Learns a row's p-values, before any correction and after that of its key."""
    key.rows = key.rows * _KEY_DECAY + 1.0
    key.tail *= _KEY_DECAY
    key.depth *= _KEY_DECAY
    if uncorrected < Q:
        depth = np.log(Q / uncorrected)
        if depth < _DEEPEST:
            key.tail += 1.0
            key.depth += depth
            _fit_key(key)
    pool.rows += 1.0
    pool.since += 1.0
    if corrected < Q:
        octave = int(np.log(Q / corrected) / _HALF_OCTAVE)
        if octave < _HALF_OCTAVES:
            pool.lately[octave] += 1.0
    if pool.since >= _EVERY_ROWS:
        _fit_pool(pool, rate)


@kernel
def _mean_depth(exponent: float) -> float:
    """Of an exponential distribution that is truncated at `_DEEPEST`."""
    return float(1.0 / exponent - _DEEPEST / (np.exp(exponent * _DEEPEST) - 1.0))


@kernel
def _fit_key(key: Any) -> None:
    sound = 1.0 - np.exp(-_DEEPEST)
    wanted = (key.depth + _PRIOR_TAIL * _mean_depth(1.0)) / (key.tail + _PRIOR_TAIL)
    low, high = 1.0 - _BEND_MOST, 1.0 + _BEND_MOST
    for _ in range(_STEPS):
        exponent = 0.5 * (low + high)
        if _mean_depth(exponent) > wanted:
            low = exponent
        else:
            high = exponent
    exponent = 0.5 * (low + high)
    share = (key.tail + _PRIOR_ROWS * Q * sound) / (key.rows + _PRIOR_ROWS)
    key.bend = exponent - 1.0
    correction = share / (Q * (1.0 - np.exp(-exponent * _DEEPEST)))
    key.lift = min(max(correction, 1.0 / _MOST), _MOST) - 1.0


@kernel
def _fit_pool(pool: Any, rate: float) -> None:
    decay = 0.5 ** (pool.since / _POOL_HALF_LIFE_ROWS)
    pool.rows *= decay
    ratio = np.empty(_HALF_OCTAVES)
    width = 1.0 - np.exp(-_HALF_OCTAVE)  # of a half octave, to its upper end
    last, end = 1.0, Q
    for octave in range(_HALF_OCTAVES):
        together = _TOGETHER + _TOGETHER_DUE * pool.since * end * width
        pool.count[octave] = pool.count[octave] * decay + min(pool.lately[octave], together)
        pool.lately[octave] = 0.0
        due = pool.rows * end * width
        least, most = max(last / _GROWTH, 1.0 / _MOST), min(last * _GROWTH, _MOST)
        last = min(max((pool.count[octave] + _POOL_PRIOR * last) / (due + _POOL_PRIOR), least), most)
        ratio[octave] = last
        end *= 1.0 - width
    pool.since = 0.0
    below = end * last
    pool.factor[_HALF_OCTAVES] = np.log(last)
    for octave in range(_HALF_OCTAVES - 1, -1, -1):
        end /= 1.0 - width
        below += end * width * ratio[octave]
        pool.factor[octave] = np.log(below / end)
    pool.lift = below / Q - 1.0
    pool.cut = _before_pool(rate, pool) - rate


@kernel
def _before_pool(rate: float, pool: Any) -> float:
    """What `of_pool` makes `rate` of."""
    if rate >= Q * (1.0 + pool.lift):
        return _uncorrected_body(rate, pool.lift)
    factor, wanted = pool.factor, np.log(Q / rate)
    for octave in range(_HALF_OCTAVES):
        upper, lower = octave * _HALF_OCTAVE - factor[octave], (octave + 1) * _HALF_OCTAVE - factor[octave + 1]
        if wanted < lower:
            return float(Q * np.exp(-(octave + (wanted - upper) / (lower - upper)) * _HALF_OCTAVE))
    return float(rate * np.exp(-factor[_HALF_OCTAVES]))
