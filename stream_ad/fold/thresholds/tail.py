"""The probability of a deviation, learnt from a decayed histogram of deviations.

Scores are logarithms or nearly so, and their tails lighter than exponential ones. On the scale `(e^(L z) - 1) / L` (Box
and Cox, JRSS B 1964) tails are exponential, or heavier. There the tail is a generalised Pareto distribution (peaks over
threshold; Siffer et al., KDD 2017), laid through the histogram's 9.7 %, 4.4 % and 2 % quantiles (after Pickands, Annals
of Statistics 1975), its index kept in [0, 0.25]. A fit of the far tail itself would learn the anomalies as soon as more
than `false_alarm_rate` of the events are anomalous. For the same reason no more rows beyond the gate count than normal
events would have there. ADR 0023 has the measurement.
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
        ("edge", "f8"),  # e^(L u)
        ("sigma", "f8"),  # its scale
        ("xi", "f8"),  # its index
        ("gate", "f8"),  # whose p-value is the gate's
        ("since", "f8"),  # rows since the fit
        ("next", "f8"),  # rows between that fit and the next
        ("beyond", "f8"),  # decayed count of rows beyond the gate
    ]
)

GATE_RATE = 0.005

Q, _STEP = 0.02, 2.2  # the tail begins at this quantile; the other two lie this factor apart
_XI_MAX = 0.25
_L = 0.3
_BINS_PER_UNIT, _BINS = 32, 256  # of deviations from 0 to 8; lower and higher ones count in the outermost
_HALF_LIFE_ROWS = 100_000.0
# Before the first fit: the 2 % quantile of a Gaussian, and three times its excess (0.37), as skewed scores have, so
# that a cold start is not a burst of flags.
_PRIOR_ROWS, _PRIOR_U, _PRIOR_SIGMA = 500.0, 2.05, 1.0
_FIT_ROWS_FIRST, _FIT_ROWS, _FIT_GROWTH = 16.0, 64.0, 1.1  # learnt rows between two fits
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
    """The tail through three quantiles of the deviations, and the gate."""
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
    scaled = np.exp(_L * quantile) / _L
    far = max(scaled[0] - scaled[1], 1.0 / _BINS_PER_UNIT)
    near = max(scaled[1] - scaled[2], 1.0 / _BINS_PER_UNIT)
    xi = min(max(np.log(far / near) / np.log(_STEP), 0.0), _XI_MAX)
    if xi < 1e-6:
        xi = 0.0
    tail.u, tail.edge, tail.xi = u, np.exp(_L * u), xi
    tail.sigma = far / np.log(_STEP) if xi == 0.0 else far * xi / (1.0 - _STEP**-xi)
    tail.gate = deviation(min(rate, GATE_RATE), tail)


@kernel
def deviation(p: float, tail: Any) -> float:
    """The deviation whose p-value is `p`."""
    if p >= Q:
        body = (p - Q) / (1.0 - Q)
        return float(tail.u * (1.0 - 2.0 * body) / (1.0 - body))
    rarity = np.log(Q / p)
    excess = tail.sigma * (rarity if tail.xi == 0.0 else (np.exp(tail.xi * rarity) - 1.0) / tail.xi)
    return float(np.log(tail.edge + _L * excess) / _L)


@kernel
def p_value(z: float, tail: Any) -> float:
    """Falls from 1 to `Q` at u along a hyperbola (about 1/2 at the mean), then with the fitted tail."""
    if z <= tail.u:
        return float(Q + (1.0 - Q) * (tail.u - z) / (2.0 * tail.u - z))
    excess = (np.exp(_L * z) - tail.edge) / (_L * tail.sigma)
    p = Q * (np.exp(-excess) if tail.xi == 0.0 else (1.0 + tail.xi * excess) ** (-1.0 / tail.xi))
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
