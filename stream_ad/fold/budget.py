"""Keeps the incidents that are told within a budget: at most so many in any period of event time.

A line that opens an incident asks. A ring of the times at which the last incidents were told keeps the promise for
any sequence: nothing is told while the ring has as many within one period as the budget has. Which ones are told is
decided by severity, the decades by which the p-value lies below the stated rate, and a level that follows adaptive
conformal inference (Gibbs & Candès, NeurIPS 2021): level <- level + gain * (1{severity > level} - share of the
budget). An incident above the level is told; so is any while less than half of the budget is used, because nobody
wants an unused budget to hide what was flagged. The level aims at four fifths of the budget, so that something is
left for what is worse than all before it.

An incident that is held back may be told later, when it becomes more severe, and a silence when it lasts. Its updates
and its resolution are held back with it. Shifts, silences and values outside their range count as incidents.

A partition has its share of the pipeline's budget: the whole number of incidents, or one incident in a longer period
where that is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from stream_ad import config
from stream_ad.batch import F64, I64, U8, Alerts, Bool, Phase, Rule, Strings
from stream_ad.fold import alert_kernel as alert
from stream_ad.fold.state import Records, per_key, records
from stream_ad.hash_kernel import FNV_BASIS, fnv1a
from stream_ad.kernel import kernel

_OPENED, _RESOLVED = int(Phase.opened), int(Phase.resolved)
_SHIFT, _SILENCE, _RANGE = int(Rule.shift), int(Rule.silence), int(Rule.range)
_TOLD, _HELD, _ENDED = range(3)  # ended: the reader of the alerts knows of the incident and of its resolution

_LEVEL = np.dtype(
    [
        ("decades", "f8"),
        ("asked_ms", "f8"),  # when an incident asked last
        ("owner", "i8"),  # a hash of the key; 0 = the pipeline, or nobody yet
    ]
)
_COUNT = np.dtype([("told", "i8"), ("held", "i8")])  # incidents since the beginning of the log

RING, KEY_RING = 64, 16
_GAIN_DECADES = 3.0  # by which the level rises when all of a budget is told at once
_AIM = 0.8
_FREE = 0.5
_SILENCE_DECADES, _RANGE_DECADES = 2.0, 4.0  # they have no p-value; a silence has a decade more for each doubling


@dataclass(slots=True)
class BudgetState:
    ring: I64  # [64]  times at which incidents were told, ms + 1; 0 = none
    level: F64  # [3]  _LEVEL
    count: I64  # [2]  _COUNT
    # [capacity,3]  what the reader of the alerts knows of the key's incident, of its silence, of its range
    known: U8 = per_key()
    key_ring: I64 = per_key()  # [capacity,16]  as `ring`; no rows without a budget for keys
    key_level: F64 = per_key()  # [capacity,3]


class Limit(NamedTuple):
    """At most `incidents` in any `period_ms`."""

    incidents: int
    period_ms: float

    @classmethod
    def of(cls, budget: config.Budget | None, ring: int, partitions: int = 1) -> Limit:
        """A partition's share; 0 incidents = no limit. More than a ring holds are counted in shorter periods."""
        if budget is None:
            return cls(0, 0.0)
        if budget.incidents < partitions:
            return cls(1, float(budget.period_ms) * partitions / budget.incidents)
        share = budget.incidents // partitions
        pieces = -(-share // ring)
        return cls(share // pieces, float(budget.period_ms) / pieces)


def share(budget: config.Budget, partitions: int) -> str:
    """What each partition may tell, in words."""
    if budget.incidents < partitions:
        longer = partitions / budget.incidents
        return f"{budget} among {partitions} partitions: one incident of each in {longer:.3g} times the period"
    return f"{budget} among {partitions} partitions: {budget.incidents // partitions} of each"


class Spent(NamedTuple):
    """Of a shard's budget."""

    limit: int  # incidents in a period; 0 = none
    used: int  # in the period before now
    held: int  # since the beginning of the log


class _Memory(NamedTuple):
    """The arrays of the state."""

    ring: I64
    level: Records  # [1]
    counts: Records  # [1]
    known: U8
    key_ring: I64
    key_level: Records


class _Asking(NamedTuple):
    """The columns of the alerts that the loop reads, [k] each."""

    rule: U8
    phase: U8
    slot: I64
    now_ms: I64
    expected_ms: I64
    silent_ms: I64
    p_value: F64
    key_data: U8  # [b]
    key_start: I64  # [k+1]


class Budget:
    """Fold[BudgetState, Alerts, Alerts], by the rules above."""

    def __init__(self, section: config.Incidents, rate: float, partitions: int = 1) -> None:
        """`rate`: the stated rate of false alarms, above which nothing is flagged."""
        self._section, self._rate = section, rate
        self.limit = Limit.of(section.budget, RING, max(partitions, 1))
        self.key_limit = Limit.of(section.key_budget, KEY_RING)

    def among(self, partitions: int) -> Budget:
        """For one of so many partitions."""
        return Budget(self._section, self._rate, partitions)

    def init(self, capacity: int) -> BudgetState:
        keys = capacity if self.key_limit.incidents else 0
        return BudgetState(
            ring=np.zeros(RING, np.int64),
            level=np.zeros(3),
            count=np.zeros(2, np.int64),
            known=np.zeros((capacity, 3), np.uint8),
            key_ring=np.zeros((keys, KEY_RING), np.int64),
            key_level=np.zeros((keys, 3)),
        )

    def step(self, state: BudgetState, batch: Alerts) -> Alerts:
        """The alerts that are told, in their order."""
        if not len(batch):
            return batch
        phase = batch.phase.copy()
        told = np.zeros(len(batch), np.bool_)
        _walk(
            _Asking(
                batch.rule,
                phase,
                batch.slot,
                batch.now_ms,
                batch.expected_ms,
                batch.silent_ms,
                batch.p_value,
                *_writable(batch.key),
            ),
            _Memory(
                state.ring,
                records(state.level, _LEVEL),
                records(state.count, _COUNT),
                state.known,
                state.key_ring,
                records(state.key_level, _LEVEL),
            ),
            self.limit,
            self.key_limit,
            np.log10(self._rate),
            told,
        )
        return replace(batch, phase=phase).take(np.flatnonzero(told))

    def spent(self, state: BudgetState, now_ms: int) -> Spent:
        used = int(_within(state.ring, float(now_ms), self.limit.period_ms))
        return Spent(self.limit.incidents, used, int(records(state.count, _COUNT)[0]["held"]))


def _writable(key: Strings) -> tuple[U8, I64]:
    # numba compiles a kernel once for writable and once for read-only memory: always pass the first
    return np.require(key.data, requirements=["C", "W"]), key.start


@kernel
def _within(ring: I64, now_ms: float, period_ms: float) -> int:
    count = 0
    for told in ring:
        if told > 0 and told - 1 > now_ms - period_ms:
            count += 1
    return count


@kernel
def _note(ring: I64, now_ms: int) -> None:
    earliest = 0
    for i in range(len(ring)):
        if ring[i] < ring[earliest]:
            earliest = i
    ring[earliest] = now_ms + 1


@kernel
def _granted(ring: I64, level: Any, limit: Limit, now_ms: int, severity: float) -> bool:
    """Whether the budget has room for an incident of this severity. Moves the level; does not note the incident."""
    if limit.incidents == 0:
        return True
    gain = _GAIN_DECADES / limit.incidents
    if level.asked_ms > 0.0:
        passed = max(now_ms - level.asked_ms, 0.0) / limit.period_ms
        level.decades = max(level.decades - gain * _AIM * limit.incidents * passed, 0.0)
    level.asked_ms = max(level.asked_ms, float(now_ms))
    above = severity > level.decades
    if above:
        level.decades += gain
    used = _within(ring, float(now_ms), limit.period_ms)
    return bool(used < limit.incidents and (above or used < _FREE * limit.incidents))


@kernel
def _hash(asking: _Asking, k: int) -> int:
    """Of the key, never 0."""
    hashed = fnv1a(asking.key_data, asking.key_start[k], asking.key_start[k + 1], FNV_BASIS)
    return int(np.int64(hashed >> np.uint64(1)) | 1)


@kernel
def _severity(asking: _Asking, k: int, rate_decades: float) -> float:
    rule = asking.rule[k]
    if rule == _SILENCE:
        longer = asking.silent_ms[k] / max(asking.expected_ms[k], 1)
        return float(_SILENCE_DECADES + np.log2(max(longer, 1.0)))
    if rule == _RANGE:
        return _RANGE_DECADES
    return float(max(rate_decades - np.log10(max(asking.p_value[k], 1e-300)), 0.0))


@kernel
def _asks(asking: _Asking, k: int, memory: _Memory, limit: Limit, key_limit: Limit, rate_decades: float) -> bool:
    """Whether the incident that the line opens is told; notes it if so."""
    now_ms, s = asking.now_ms[k], asking.slot[k]
    severity = _severity(asking, k, rate_decades)
    keyed = key_limit.incidents > 0
    if keyed:
        level, owner = memory.key_level[s], _hash(asking, k)
        if level.owner != owner:
            memory.key_ring[s, :] = 0
            level.decades, level.asked_ms, level.owner = 0.0, 0.0, owner
        if not _granted(memory.key_ring[s], level, key_limit, now_ms, severity):
            return False
    if not _granted(memory.ring, memory.level[0], limit, now_ms, severity):
        return False
    if keyed:
        _note(memory.key_ring[s], now_ms)
    _note(memory.ring, now_ms)
    return True


@kernel
def _walk(asking: _Asking, memory: _Memory, limit: Limit, key_limit: Limit, rate_decades: float, told: Bool) -> None:
    count = memory.counts[0]
    for k in range(len(told)):
        rule, phase = asking.rule[k], asking.phase[k]
        known = memory.known[asking.slot[k]]
        at = 1 if rule == _SILENCE else 2 if rule == _RANGE else 0
        asks = phase == _OPENED or (known[at] == _HELD and phase != _RESOLVED)
        if asks:
            told[k] = _asks(asking, k, memory, limit, key_limit, rate_decades)
            asking.phase[k] = _OPENED
            count.told += told[k]
            count.held += phase == _OPENED and not told[k]
            if rule != _SHIFT:
                known[at] = _TOLD if told[k] else _HELD
        elif phase == _RESOLVED:
            told[k] = known[at] == _TOLD
            if told[k]:
                known[at] = _ENDED
        elif phase != alert.ASKED_AGAIN:
            told[k] = True
            known[at] = _TOLD
