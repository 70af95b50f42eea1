"""An adaptive threshold per key, calibrated over the shard.

A score is judged first and learnt afterwards. It is not learnt if it was flagged (the gate), or is near a flag of its
key: if noise brings a new level below the threshold now and then, only those rows would be learnt, and raise it. Of a
score that is far below what was expected, a key learns 1.7 deviations: a calm stretch must not widen what
follows. An event without any value says nothing of the scores of those that have some, and is not learnt.

* *Level*: exponentially weighted mean and variance of the key's scores. A key of `k` learnt
  rows is judged by the moments of those `k` rows merged with `prior_rows` rows of the pool
  (the shard's mean and variance), so that the prior fades as the key speaks. The fade goes by
  the number of rows ever learnt and not by the effective memory; otherwise a key whose level
  differs from the pool's would be misjudged for ever.
* *Tail*: `thresholds.tail` learns over the shard how rare a deviation `z = (score - mean) / std` is,
  also from rows near a flag: where scores are autocorrelated, these are the high ones. `thresholds.recalibration`
  corrects its p-values by how often they came true.
* *Escape*: a streak of flags that lasts becomes the key's new normal, reported once. It ends
  with five normal rows in a row.

With a `false_alarm_rate` above 0.5 % the gate and the streaks use the cut of 0.5 %: a user who wants to see one event
in three does not want the threshold to learn from the other two only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stream_ad.batch import F64, I32, I64, Bool, EventBatch, Scores, Verdicts
from stream_ad.fold import ewma
from stream_ad.fold.state import Records, per_key, records
from stream_ad.fold.thresholds import recalibration, tail
from stream_ad.fold.thresholds.options import EwmaOptions
from stream_ad.kernel import kernel, prefetch

_KEY = np.dtype(
    [
        ("learnt", ewma.MOMENTS),
        ("streak", ewma.MOMENTS),  # of flags
        ("streak_ms", "f8"),  # when it began
        ("calm", "f8"),  # normal rows since the last flag
        ("escaped", "f8"),  # 1 = a streak set the key's level: the pool has no part in it any more
    ]
)

_POOL_HALF_LIFE_ROWS = 10_000.0
_POOL_PRIOR_ROWS = 100.0  # weight of "mean 0, standard deviation 1", which calibrated scores are about
_POOL_OPEN_ROWS = 200.0  # until then the pool learns flags too (at the gate), if the calibration is off
_POOL_ALPHA = 1.0 - 0.5 ** (1.0 / _POOL_HALF_LIFE_ROWS)
# A key of nearly constant scores must not alarm on noise that is nothing to the other keys: with
# a quarter of the pool's, it takes a deviation that is visible on the shard's scale.
_STD_FLOOR = 0.25
_CALM_ROWS = 5.0  # that end a streak
_LOW = 1.7  # deviations below the mean; scores are logarithms, whose lower tail is the longer one

_CARRY_ROWS = 32
_AHEAD = 8


@dataclass(slots=True)
class ThresholdState:
    pool: F64  # [3]  ewma.MOMENTS of what was learnt in the shard
    tail: F64  # [8]  tail.TAIL
    bins: F64  # [256]  decayed counts of deviations
    calibration: F64  # [59]  recalibration.POOL
    key: F64 = per_key()  # [capacity,9]  _KEY
    key_calibration: F64 = per_key()  # [capacity,5]  recalibration.KEY


class _Scored(NamedTuple):
    """The columns of the scores that the loop reads."""

    slot: I32  # [n]
    fresh: Bool  # [n]
    ts_ms: I64  # [n]
    row: I64  # [m]
    score: F64  # [m]
    empty: Bool  # [n]


class _Memory(NamedTuple):
    """The arrays of the state."""

    pool: Records  # [1]
    tail: Records  # [1]
    bins: F64  # [256]
    calibration: Records  # [1]
    key: Records  # [capacity]
    key_calibration: Records  # [capacity]


class _Options(NamedTuple):
    rate: float
    alpha: float
    prior_rows: float
    escape_ms: float
    escape_rows: float


class _Out(NamedTuple):
    """The columns of the verdicts, [m] each."""

    threshold: F64
    deviation: F64
    p_value: F64
    flag: Bool
    shift: Bool


class EwmaThreshold:
    """Fold[ThresholdState, Scores, Verdicts], by the rules above. It never uses labels."""

    Options = EwmaOptions

    def __init__(self, section: EwmaOptions) -> None:
        self._options = _Options(
            rate=section.false_alarm_rate,
            alpha=1.0 - 0.5 ** (1.0 / section.half_life_rows),
            prior_rows=float(section.prior_rows),
            escape_ms=float(section.escape_after),
            escape_rows=float(section.escape_rows),
        )

    def init(self, capacity: int) -> ThresholdState:
        fitted, bins = tail.prior(self._options.rate)
        return ThresholdState(
            pool=np.array([_POOL_PRIOR_ROWS, 0.0, 1.0]),
            tail=fitted,
            bins=bins,
            calibration=np.zeros(recalibration.POOL.itemsize // 8),
            key=np.zeros((capacity, 9)),
            key_calibration=np.zeros((capacity, 5)),
        )

    def step(self, state: ThresholdState, batch: Scores) -> Verdicts:
        keyed = batch.features.windows.keyed
        m = len(batch)
        out = _Out(np.empty(m), np.empty(m), np.empty(m), np.empty(m, np.bool_), np.empty(m, np.bool_))
        _judge(
            _Scored(
                keyed.slot,
                keyed.fresh,
                keyed.events.ts_ms,
                batch.features.row,
                batch.score,
                _without_values(keyed.events),
            ),
            _memory(state),
            self._options,
            out,
        )
        return Verdicts(batch, *out)

    def carry(self, state: ThresholdState, old: F64, new: F64) -> None:
        """Maps the state to the scale of a new model.

        `old`, `new` [r]: scores of the same recent windows by the two models. They are joined by
        the line `new = a + b * old` through medians and median absolute deviations, `b` kept in
        [0.05, 20]. With fewer than 32 finite pairs, or without spread, each side is taken as
        calibrated: the pool becomes mean 0, standard deviation 1 again. How rare deviations are begins anew: the tail
        of one model's scores says little of another's, and would be forgotten only after 100,000 rows.
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
            pool = records(state.pool, ewma.MOMENTS)[0]
            b = 1.0 / float(np.sqrt(pool["variance"]))
            a = -float(pool["mean"]) * b
        _rescale(_memory(state), a, b)
        state.tail[:], state.bins[:] = tail.prior(self._options.rate)
        state.calibration[:], state.key_calibration[:] = 0.0, 0.0


def _without_values(events: EventBatch) -> Bool:
    """[n]; none, where no fields are configured."""
    empty: Bool = np.isnan(events.values).all(axis=1) & (events.codes == 0).all(axis=1)
    if not events.values.shape[1] + events.codes.shape[1]:
        empty[:] = False
    return empty


def _memory(state: ThresholdState) -> _Memory:
    return _Memory(
        records(state.pool, ewma.MOMENTS),
        records(state.tail, tail.TAIL),
        state.bins,
        records(state.calibration, recalibration.POOL),
        records(state.key, _KEY),
        records(state.key_calibration, recalibration.KEY),
    )


@kernel
def _end_streak(key: Any) -> None:
    ewma.forget(key.streak)
    key.streak_ms = key.calm = 0.0


@kernel
def _expected(key: Any, pool: Any, prior_rows: float) -> tuple[float, float]:
    """Mean and standard deviation that the next score of the key is expected to have."""
    learnt = key.learnt
    own = learnt.rows / (learnt.rows + prior_rows) if key.escaped == 0.0 else 1.0
    apart = learnt.mean - pool.mean
    variance = own * learnt.variance + (1.0 - own) * (pool.variance + own * apart * apart)
    return pool.mean + own * apart, np.sqrt(max(variance, _STD_FLOOR * _STD_FLOOR * pool.variance))


@kernel
def _lengthen(key: Any, x: float, ts_ms: int, kept_out: bool, flagged: bool, options: _Options) -> bool:
    """Adds a row to the key's streak; returns whether the streak now becomes the key's new normal."""
    if key.streak.rows == 0.0:
        key.streak_ms = ts_ms
    ewma.learn(key.streak, x, options.alpha)
    key.calm = 0.0 if kept_out else key.calm + 1.0
    if flagged and key.streak.rows >= options.escape_rows and ts_ms - key.streak_ms >= options.escape_ms:
        key.learnt = key.streak
        key.escaped = 1.0
        _end_streak(key)
        return True
    if key.calm >= _CALM_ROWS:
        _end_streak(key)
    return False


@kernel
def _judge(scored: _Scored, memory: _Memory, options: _Options, out: _Out) -> None:
    # taken before the loop: within it, numba would count a reference each time
    slot, fresh, ts_ms, rows, score, empty = scored
    keys, bins, pool, fit = memory.key, memory.bins, memory.pool[0], memory.tail[0]
    key_calibrations, calibration = memory.key_calibration, memory.calibration[0]
    threshold, deviation, p_value, flag, shift = out.threshold, out.deviation, out.p_value, out.flag, out.shift
    rate, below_rate, gate_rate = options.rate, options.rate * (1.0 - 1e-12), min(options.rate, tail.GATE_RATE)
    next_row = 0
    for i in range(len(slot)):
        if i + _AHEAD < len(slot):
            prefetch(keys, slot[i + _AHEAD])
            prefetch(key_calibrations, slot[i + _AHEAD])
        key, key_calibration = keys[slot[i]], key_calibrations[slot[i]]
        if fresh[i]:
            ewma.forget(key.learnt)
            _end_streak(key)
            key.escaped = 0.0
            recalibration.forget(key_calibration)
        if next_row == len(rows) or rows[next_row] != i:
            continue
        row = next_row
        next_row += 1

        x = score[row]
        mean, std = _expected(key, pool, options.prior_rows)
        z = (x - mean) / std
        uncorrected = tail.p_value(z, fit)
        corrected = recalibration.of_key(uncorrected, key_calibration)
        p = recalibration.of_pool(corrected, calibration)
        limit = mean + std * tail.deviation(recalibration.uncorrected(rate, key_calibration, calibration), fit)
        flagged = x > limit
        kept_out = flagged if rate == gate_rate else p < gate_rate
        threshold[row], deviation[row], flag[row], shift[row] = limit, z, flagged, False
        p_value[row] = min(p, below_rate) if flagged else max(p, rate)

        if empty[i]:
            continue
        in_streak = kept_out or key.streak.rows > 0.0
        recalibration.count(uncorrected, corrected, rate, key_calibration, calibration)
        tail.count(z, fit, bins, rate)
        if not in_streak:
            ewma.learn(key.learnt, max(x, mean - _LOW * std), options.alpha)
        if not in_streak or pool.rows < _POOL_OPEN_ROWS:
            ewma.learn(pool, min(x, mean + fit.gate * std), _POOL_ALPHA)
        if in_streak:
            shift[row] = _lengthen(key, x, ts_ms[i], kept_out, flagged, options)


@kernel
def _rescale(memory: _Memory, a: float, b: float) -> None:
    """The moments of scores that were `x`, for scores that are `a + b * x`."""
    keys, pool = memory.key, memory.pool[0]
    for s in range(len(keys)):
        if keys[s].learnt.rows > 0.0:
            ewma.shift(keys[s].learnt, a, b)
        if keys[s].streak.rows > 0.0:
            ewma.shift(keys[s].streak, a, b)
    ewma.shift(pool, a, b)
