"""What a score is compared with: an adaptive threshold per key, calibrated over the shard.

A score is judged first and learnt afterwards, and only if it was not flagged (the gate), nor is
near a flag of its key: of a new level that noise brings below the threshold now and then, those
rows alone would be learnt, and raise it.

* *Level*: exponentially weighted mean and variance of the key's scores. A key of `k` learnt
  rows is judged by the moments of those `k` rows merged with `prior_rows` rows of the pool
  (the shard's mean and variance), so that the prior fades as the key speaks. The fade goes by
  the number of rows ever learnt, not by the effective memory: else a key whose level differs
  from the pool's would be misjudged for ever.
* *Tail*: how rare a deviation `z = (score - mean) / std` is, is learnt from a decayed
  histogram of the shard's deviations, as a generalised Pareto tail (peaks over threshold;
  Siffer et al., KDD 2017) laid through its 9.7 %, 4.4 % and 2 % quantiles (after Pickands,
  Annals of Statistics 1975), its index kept in [-0.1, 0.4]. Fitting the far tail itself breaks
  down: as soon as more than `false_alarm_rate` of the events are anomalies, it learns those.
* *Escape*: a streak of flags that lasts becomes the key's new normal, reported once. It ends
  with five normal rows in a row.

With a `false_alarm_rate` above 0.5 % the gate and the streaks go by the 0.5 % cut: who wants to see
one event in three does not want to learn from the other two only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_ad.batch import F64, I32, I64, Bool, Scores, Verdicts
from stream_ad.fold.state import per_key
from stream_ad.fold.thresholds.options import EwmaOptions
from stream_ad.kernel import kernel, prefetch

# columns of ThresholdState.key
_ROWS, _MEAN, _VAR = 0, 1, 2  # learnt
_STREAK, _STREAK_MEAN, _STREAK_VAR, _STREAK_MS, _CALM = 3, 4, 5, 6, 7  # of flags; calm = normal rows since the last
_ESCAPED = 8  # 1 = the level is the key's own: the pool's says nothing about it any more

# columns of ThresholdState.tail
_U, _SIGMA, _XI, _CUT, _GATE, _SINCE, _NEXT = 0, 1, 2, 3, 4, 5, 6

_POOL_HALF_LIFE_ROWS = 10_000.0
_POOL_PRIOR_ROWS = 100.0  # weight of "mean 0, standard deviation 1", which calibrated scores are about
_POOL_OPEN_ROWS = 200.0  # until then the pool learns flags too (at the gate), if the calibration is off
_POOL_ALPHA = 1.0 - 0.5 ** (1.0 / _POOL_HALF_LIFE_ROWS)
# A key of nearly constant scores must not alarm on noise that is nothing to the other keys: with
# a quarter of the pool's, it takes a deviation that is visible on the shard's scale.
_STD_FLOOR = 0.25
_CALM_ROWS = 5.0  # that end a streak
_GATE_RATE = 0.005

_Q, _STEP = 0.02, 2.2  # the tail begins at this quantile; the other two lie this factor apart
_XI_MIN, _XI_MAX = -0.1, 0.4
_BINS_PER_UNIT, _BINS = 32, 256  # of deviations from 0 to 8; lower and higher ones count in the outermost
_TAIL_HALF_LIFE_ROWS = 100_000.0
# Until the shard knows better: the 2 % quantile of a Gaussian, and thrice its excess (0.37), as skewed
# scores have, so that a cold start is not a burst of flags.
_TAIL_PRIOR_ROWS, _TAIL_PRIOR_U, _TAIL_PRIOR_SIGMA = 500.0, 2.05, 1.0
_FIT_ROWS_FIRST, _FIT_ROWS, _FIT_GROWTH = 16.0, 256.0, 1.1  # learnt rows between two fits
_P_MIN = 1e-30

_CARRY_ROWS = 32
_AHEAD = 8


@dataclass(slots=True)
class ThresholdState:
    pool: F64  # [3]  rows, mean, variance of what was learnt in the shard
    tail: F64  # [7]  u, sigma, xi of the fit; the cuts of flags and gate; rows since the fit, rows until the next
    bins: F64  # [256]  decayed counts of deviations
    key: F64 = per_key()  # [capacity,9]


class EwmaThreshold:
    """Fold[ThresholdState, Scores, Verdicts]; the module says how. Labels are never used."""

    Options = EwmaOptions

    def __init__(self, section: EwmaOptions) -> None:
        self._rate = section.false_alarm_rate
        self._alpha = 1.0 - 0.5 ** (1.0 / section.half_life_rows)
        self._prior = section.prior_rows
        self._escape_ms = float(section.escape_after)
        self._escape_rows = float(section.escape_rows)

    def init(self, capacity: int) -> ThresholdState:
        edge = np.arange(_BINS + 1) / _BINS_PER_UNIT
        beyond = np.minimum(_Q * np.exp((_TAIL_PRIOR_U - edge) / _TAIL_PRIOR_SIGMA), 1.0)
        beyond[0] = 1.0
        state = ThresholdState(
            pool=np.array([_POOL_PRIOR_ROWS, 0.0, 1.0]),
            tail=np.array([0.0] * 6 + [_FIT_ROWS_FIRST]),
            bins=-np.diff(beyond) * _TAIL_PRIOR_ROWS,
            key=np.zeros((capacity, 9)),
        )
        _fit(state.tail, state.bins, self._rate)
        return state

    def step(self, state: ThresholdState, batch: Scores) -> Verdicts:
        keyed = batch.features.windows.keyed
        m = len(batch)
        threshold, deviation, p_value = np.empty(m), np.empty(m), np.empty(m)
        flag, shift = np.empty(m, np.bool_), np.empty(m, np.bool_)
        _judge(
            keyed.slot, keyed.fresh, keyed.events.ts_ms, batch.features.row, batch.score,
            state.key, state.pool, state.tail, state.bins,
            self._rate, self._alpha, self._prior, self._escape_ms, self._escape_rows,
            threshold, deviation, p_value, flag, shift,
        )  # fmt: skip
        return Verdicts(batch, threshold, deviation, p_value, flag, shift)

    def carry(self, state: ThresholdState, old: F64, new: F64) -> None:
        """Maps the state to the scale of a new model.

        `old`, `new` [r]: scores of the same recent windows by the two models. They are joined by
        the line `new = a + b * old` through medians and median absolute deviations, `b` kept in
        [0.05, 20]. With fewer than 32 finite pairs, or without spread, each side is taken as
        calibrated: the pool becomes mean 0, standard deviation 1 again.
        """
        finite = np.isfinite(old) & np.isfinite(new)
        old, new = old[finite], new[finite]
        a, b = 0.0, 0.0
        if len(old) >= _CARRY_ROWS:
            mid_old, mid_new = float(np.median(old)), float(np.median(new))
            spread_old = float(np.median(np.abs(old - mid_old)))
            spread_new = float(np.median(np.abs(new - mid_new)))
            if spread_old > 0.0 and spread_new > 0.0:
                b = min(max(spread_new / spread_old, 0.05), 20.0)
                a = mid_new - b * mid_old
        if b == 0.0:
            b = 1.0 / float(np.sqrt(state.pool[2]))
            a = -float(state.pool[1]) * b
        _rescale(state.key, state.pool, a, b)


@kernel
def _learn(x: float, rows: float, mean: float, var: float, alpha: float) -> tuple[float, float, float]:
    """One exponentially weighted step; the first 1/alpha rows weigh the same (West, CACM 1979)."""
    a = max(1.0 / (rows + 1.0), alpha)
    delta = x - mean
    return rows + 1.0, mean + a * delta, (1.0 - a) * (var + a * delta * delta)


@kernel
def _fit(tail: F64, bins: F64, rate: float) -> None:
    """The tail through three quantiles of the deviations, and the cuts that `rate` of them exceed, or the gate's."""
    # The gate keeps from the histogram what lies beyond the cut: that share of normal rows is missing.
    missing = min(rate, _GATE_RATE)
    total = bins.sum() / (1.0 - missing)
    quantile = np.empty(3)
    found, above, wanted = 0, missing * total, _Q * total
    for i in range(_BINS - 1, -1, -1):
        while found < 3 and above + bins[i] >= wanted:
            quantile[found] = (i + 1.0 - (wanted - above) / bins[i]) / _BINS_PER_UNIT
            found += 1
            wanted *= _STEP
        above += bins[i]
    u = max(quantile[0], 1.0 / _BINS_PER_UNIT)
    far = max(quantile[0] - quantile[1], 1.0 / _BINS_PER_UNIT)
    near = max(quantile[1] - quantile[2], 1.0 / _BINS_PER_UNIT)
    xi = min(max(np.log(far / near) / np.log(_STEP), _XI_MIN if rate < _Q else 0.0), _XI_MAX)
    if abs(xi) < 1e-6:
        xi = 0.0
    sigma = far / np.log(_STEP) if xi == 0.0 else far * xi / (1.0 - _STEP**-xi)
    tail[_U], tail[_SIGMA], tail[_XI] = u, sigma, xi
    tail[_CUT] = _exceeded(rate, tail)
    tail[_GATE] = _exceeded(min(rate, _GATE_RATE), tail)


@kernel
def _exceeded(rate: float, tail: F64) -> float:
    """The deviation whose p-value is `rate`."""
    u, sigma, xi = tail[_U], tail[_SIGMA], tail[_XI]
    if rate >= _Q:
        body = (rate - _Q) / (1.0 - _Q)
        return float(u * (1.0 - 2.0 * body) / (1.0 - body))
    if xi == 0.0:
        return float(u + sigma * np.log(_Q / rate))
    return float(u + sigma / xi * ((_Q / rate) ** xi - 1.0))


@kernel
def _p_value(z: float, tail: F64, rate: float) -> float:
    """Falls from 1 to `_Q` at u along a hyperbola (about 1/2 at the mean), then with the fitted tail.

    A light tail (xi < 0) ends somewhere; beyond the cut it is continued as an exponential one.
    """
    u, sigma, xi, cut = tail[_U], tail[_SIGMA], tail[_XI], tail[_CUT]
    if z <= u:
        return float(_Q + (1.0 - _Q) * (u - z) / (2.0 * u - z))
    if xi == 0.0:
        p = _Q * np.exp((u - z) / sigma)
    elif xi < 0.0 and z > cut:
        p = rate * np.exp((cut - z) / (sigma + xi * (cut - u)))
    else:
        p = _Q * (1.0 + xi * (z - u) / sigma) ** (-1.0 / xi)
    return float(max(p, _P_MIN))


@kernel
def _count(z: float, tail: F64, bins: F64, rate: float) -> None:
    bins[int(min(max(z * _BINS_PER_UNIT, 0.0), _BINS - 1.0))] += 1.0
    tail[_SINCE] += 1.0
    if tail[_SINCE] >= tail[_NEXT]:
        bins *= 0.5 ** (tail[_SINCE] / _TAIL_HALF_LIFE_ROWS)
        tail[_SINCE] = 0.0
        tail[_NEXT] = min(tail[_NEXT] * _FIT_GROWTH, _FIT_ROWS)
        _fit(tail, bins, rate)


@kernel
def _judge(
    slot: I32, fresh: Bool, ts_ms: I64, scored: I64, score: F64,
    key: F64, pool: F64, tail: F64, bins: F64,
    rate: float, alpha: float, prior_rows: float, escape_ms: float, escape_rows: float,
    threshold: F64, deviation: F64, p_value: F64, flag: Bool, shift: Bool,
) -> None:  # fmt: skip
    below_rate = rate * (1.0 - 1e-12)
    next_row = 0
    for i in range(len(slot)):
        if i + _AHEAD < len(slot):
            prefetch(key, slot[i + _AHEAD])
        held = key[slot[i]]
        if fresh[i]:
            held[:] = 0.0
        if next_row == len(scored) or scored[next_row] != i:
            continue
        row = next_row
        next_row += 1

        x = score[row]
        own = held[_ROWS] / (held[_ROWS] + prior_rows) if held[_ESCAPED] == 0.0 else 1.0
        apart = held[_MEAN] - pool[1]
        mean = pool[1] + own * apart
        var = own * held[_VAR] + (1.0 - own) * (pool[2] + own * apart * apart)
        std = np.sqrt(max(var, _STD_FLOOR * _STD_FLOOR * pool[2]))
        limit = mean + tail[_CUT] * std
        flagged = x > limit
        z = (x - mean) / std
        p = _p_value(z, tail, rate)
        threshold[row], deviation[row], flag[row], shift[row] = limit, z, flagged, False
        p_value[row] = min(p, below_rate) if flagged else max(p, rate)

        gate = mean + tail[_GATE] * std
        kept_out = x > gate
        streak = kept_out or held[_STREAK] > 0.0
        if not streak:
            held[_ROWS], held[_MEAN], held[_VAR] = _learn(x, held[_ROWS], held[_MEAN], held[_VAR], alpha)
            _count(z, tail, bins, rate)
        if not streak or pool[0] < _POOL_OPEN_ROWS:
            pool[0], pool[1], pool[2] = _learn(min(x, gate), pool[0], pool[1], pool[2], _POOL_ALPHA)
        if not streak:
            continue

        if held[_STREAK] == 0.0:
            held[_STREAK_MS] = ts_ms[i]
        held[_STREAK], held[_STREAK_MEAN], held[_STREAK_VAR] = _learn(
            x, held[_STREAK], held[_STREAK_MEAN], held[_STREAK_VAR], alpha
        )
        held[_CALM] = 0.0 if kept_out else held[_CALM] + 1.0
        if flagged and held[_STREAK] >= escape_rows and ts_ms[i] - held[_STREAK_MS] >= escape_ms:
            held[:_STREAK] = held[_STREAK:_STREAK_MS]
            held[_STREAK:_ESCAPED] = 0.0
            held[_ESCAPED] = 1.0
            shift[row] = True
        elif held[_CALM] >= _CALM_ROWS:
            held[_STREAK:_ESCAPED] = 0.0


@kernel
def _rescale(key: F64, pool: F64, a: float, b: float) -> None:
    for s in range(len(key)):
        row = key[s]
        if row[_ROWS] > 0.0:
            row[_MEAN] = a + b * row[_MEAN]
            row[_VAR] *= b * b
        if row[_STREAK] > 0.0:
            row[_STREAK_MEAN] = a + b * row[_STREAK_MEAN]
            row[_STREAK_VAR] *= b * b
    pool[1] = a + b * pool[1]
    pool[2] *= b * b
