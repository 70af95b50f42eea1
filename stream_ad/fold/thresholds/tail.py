"""The probability of a deviation, learnt from a decayed histogram of deviations.

The tail is a generalised Pareto distribution (peaks over threshold; Siffer et al., KDD 2017) laid
through the histogram's 9.7 %, 4.4 % and 2 % quantiles (after Pickands, Annals of Statistics 1975),
its index kept in [-0.15, 0.2]. A fit of the far tail itself would learn the anomalies as soon as more than
`false_alarm_rate` of the events are anomalous. For the same reason no more rows beyond the gate count than normal
events would have there. ADR 0014 has the measurement.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream_ad.batch import F64
from stream_ad.fold.state import records
from stream_ad.kernel import kernel

TAIL = np.dtype(
    [
        ("u", "f8"),  # where the tail begins
        ("sigma", "f8"),  # its scale
        ("xi", "f8"),  # its index
        ("cut", "f8"),  # whose p-value is the stated rate
        ("gate", "f8"),  # whose p-value is the gate's
        ("since", "f8"),  # rows since the fit
        ("next", "f8"),  # rows between that fit and the next
        ("beyond", "f8"),  # decayed count of rows beyond the gate
    ]
)

GATE_RATE = 0.005

Q, _STEP = 0.02, 2.2  # the tail begins at this quantile; the other two lie this factor apart
_XI_MIN, _XI_MAX = -0.15, 0.2
_BINS_PER_UNIT, _BINS = 32, 256  # of deviations from 0 to 8; lower and higher ones count in the outermost
_HALF_LIFE_ROWS = 100_000.0
# Before the first fit: the 2 % quantile of a Gaussian, and three times its excess (0.37), as skewed scores have, so
# that a cold start is not a burst of flags.
_PRIOR_ROWS, _PRIOR_U, _PRIOR_SIGMA = 500.0, 2.05, 1.0
_FIT_ROWS_FIRST, _FIT_ROWS, _FIT_GROWTH = 16.0, 256.0, 1.1  # learnt rows between two fits
_P_MIN = 1e-30


def prior(rate: float) -> tuple[F64, F64]:
    """The tail [8] and the histogram [256] of a shard that has learnt nothing yet."""
    edge = np.arange(_BINS + 1) / _BINS_PER_UNIT
    beyond = np.minimum(Q * np.exp((_PRIOR_U - edge) / _PRIOR_SIGMA), 1.0)
    beyond[0] = 1.0
    tail, bins = np.zeros(8), -np.diff(beyond) * _PRIOR_ROWS
    record = records(tail, TAIL)[0]
    record["next"] = _FIT_ROWS_FIRST
    fit(record, bins, rate)
    return tail, bins


@kernel
def fit(tail: Any, bins: F64, rate: float) -> None:
    """The tail through three quantiles of the deviations, and the cuts that `rate` of them exceed, or the gate's."""
    inside = bins.sum()
    missing = min(tail.beyond / (inside + tail.beyond), rate, GATE_RATE)
    total = inside / (1.0 - missing)
    quantile = np.empty(3)
    known, above, wanted = 0, missing * total, Q * total
    for i in range(_BINS - 1, -1, -1):
        while known < 3 and above + bins[i] >= wanted:
            quantile[known] = (i + 1.0 - (wanted - above) / bins[i]) / _BINS_PER_UNIT
            known += 1
            wanted *= _STEP
        above += bins[i]
    u = max(quantile[0], 1.0 / _BINS_PER_UNIT)
    far = max(quantile[0] - quantile[1], 1.0 / _BINS_PER_UNIT)
    near = max(quantile[1] - quantile[2], 1.0 / _BINS_PER_UNIT)
    xi = min(max(np.log(far / near) / np.log(_STEP), _XI_MIN if rate < Q else 0.0), _XI_MAX)
    if abs(xi) < 1e-6:
        xi = 0.0
    sigma = far / np.log(_STEP) if xi == 0.0 else far * xi / (1.0 - _STEP**-xi)
    tail.u, tail.sigma, tail.xi = u, sigma, xi
    tail.cut = _exceeded(rate, tail)
    tail.gate = _exceeded(min(rate, GATE_RATE), tail)


@kernel
def _exceeded(rate: float, tail: Any) -> float:
    """The deviation that a share of `rate` exceeds, by the quantile and the Pareto distribution alone."""
    u, sigma, xi = tail.u, tail.sigma, tail.xi
    if rate >= Q:
        body = (rate - Q) / (1.0 - Q)
        return float(u * (1.0 - 2.0 * body) / (1.0 - body))
    if xi == 0.0:
        return float(u + sigma * np.log(Q / rate))
    return float(u + sigma / xi * (np.exp(xi * np.log(Q / rate)) - 1.0))


@kernel
def deviation(p: float, tail: Any, rate: float) -> float:
    """The deviation whose p-value is `p`."""
    if tail.xi < 0.0 and p < rate:
        return float(tail.cut + (tail.sigma + tail.xi * (tail.cut - tail.u)) * np.log(rate / p))
    return _exceeded(p, tail)


@kernel
def p_value(z: float, tail: Any, rate: float) -> float:
    """Falls from 1 to `Q` at u along a hyperbola (about 1/2 at the mean), then with the fitted tail.

    A light tail (xi < 0) ends somewhere; beyond the cut it is continued as an exponential one.
    """
    u, sigma, xi, cut = tail.u, tail.sigma, tail.xi, tail.cut
    if z <= u:
        return float(Q + (1.0 - Q) * (u - z) / (2.0 * u - z))
    if xi == 0.0:
        p = Q * np.exp((u - z) / sigma)
    elif xi < 0.0 and z > cut:
        p = rate * np.exp((cut - z) / (sigma + xi * (cut - u)))
    else:
        p = Q * (1.0 + xi * (z - u) / sigma) ** (-1.0 / xi)
    return float(max(p, _P_MIN))


@kernel
def count(z: float, tail: Any, bins: F64, rate: float) -> None:
    """Learns a deviation, and fits the tail anew when enough have come."""
    if z > tail.gate:
        tail.beyond += 1.0
        return
    bins[int(min(max(z * _BINS_PER_UNIT, 0.0), _BINS - 1.0))] += 1.0
    tail.since += 1.0
    if tail.since >= tail.next:
        decay = 0.5 ** (tail.since / _HALF_LIFE_ROWS)
        bins *= decay
        tail.beyond *= decay
        tail.since = 0.0
        tail.next = min(tail.next * _FIT_GROWTH, _FIT_ROWS)
        fit(tail, bins, rate)
