"""Makes alerts of flags: consecutive anomalous rows of a key are one incident.

* *opened* with the first flagged row; the incident is named by that row's offset.
* *updated* when the p-value is `update_factor` lower than at the last opened or updated alert, `cooldown` ago or more.
* *resolved* after `resolve_rows` normal rows in a row, or when the watermark passes the last row that was not normal by
  `resolve_after` (whichever key's event moves it), or when the key is forgotten. A row is normal from a p-value of
  `_NORMAL_P` on: one anomaly in the window of many rows, whose scores go up and down, is one incident (hysteresis).
* A flag within `cooldown` of the incident's last opened or updated alert continues a resolved incident silently; its
  end, told before, is silent too. Only an update is published again, and then a resolution follows.
* With a budget each new lowest p-value of an incident is a line (`alert_kernel.ASKED_AGAIN`), by which
  `stream_ad.fold.budget` tells an incident after all that it held back when it opened.
* A level shift ends the incident: one alert of rule shift, then the resolution.

Events with a value outside its valid range make incidents of a rule of their own, in the same way; they have no score
and no p-value, and so no updates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from stream_ad import config
from stream_ad.batch import F64, I64, U8, Alerts, Bool, Phase, Rule, Verdicts
from stream_ad.fold import alert_kernel as alert
from stream_ad.fold import timers
from stream_ad.fold.alert_kernel import Events, Lines
from stream_ad.fold.state import Records, per_key, records
from stream_ad.fold.timers import Wheel
from stream_ad.kernel import kernel, prefetch

_NONE, _REPORTED, _SILENT, _CLOSED = range(4)  # reported, silent: open, and the reader of the alerts knows of it or not
_SHIFT = int(Rule.shift)
_OPENED, _UPDATED, _RESOLVED = int(Phase.opened), int(Phase.updated), int(Phase.resolved)

_INTS = np.dtype(
    [
        ("incident", "i8"),  # offset of the first flag
        ("opened_ms", "i8"),  # its event time
        ("about", "i8"),  # offset of the last flag
        ("about_ms", "i8"),
        ("events", "i8"),  # flags
        ("normal", "i8"),  # normal rows in a row
        ("alerted_ms", "i8"),  # event time of the last opened or updated alert
        ("key_bytes", "i8"),
        ("unrest_ms", "i8"),  # event time of the last row that was neither flagged nor normal
    ]
)
_REAL = np.dtype(
    [
        ("score", "f8"),  # of the last flag, as the next two
        ("threshold", "f8"),
        ("p_value", "f8"),
        ("peak_p", "f8"),  # the lowest
        ("alerted_p", "f8"),  # of the last opened or updated alert
    ]
)

_AHEAD = 16  # rows
_NORMAL_P = 0.02  # where the threshold's tail begins


@dataclass(slots=True)
class IncidentState:
    head: I64  # [512]  timers, as the next two
    clock: I64  # [3]
    link: I64 = per_key()  # [capacity,3]
    phase: U8 = per_key()  # [capacity]  all that a normal row looks at
    whole: I64 = per_key()  # [capacity,9]  _INTS; snapshots have it under this name
    real: F64 = per_key()  # [capacity,5]  _REAL
    key: U8 = per_key()  # [capacity,max_key_bytes]  of a key that had an incident


class _Judged(NamedTuple):
    """The columns of the verdicts that the loop reads, [m] each."""

    row: I64
    score: F64
    threshold: F64
    p_value: F64
    flag: Bool
    shift: Bool


class _Keys(NamedTuple):
    """The keys' incidents, [capacity] each."""

    phase: U8
    ints: Records
    real: Records
    name: U8


class _Options(NamedTuple):
    resolve_ms: int
    resolve_rows: int
    cooldown_ms: int
    update_factor: float
    rule: int  # of the alerts, unless a level shifts
    asks: bool  # whether a budget may have held back the alert that opened an incident


class Incidents:
    """Fold[IncidentState, Verdicts, Alerts], by the rules above."""

    def __init__(self, section: config.Incidents, max_key_bytes: int, rule: Rule = Rule.score) -> None:
        self._options = _Options(
            section.resolve_after,
            section.resolve_rows,
            section.cooldown,
            float(section.update_factor),
            int(rule),
            section.limited,
        )
        self._max_key_bytes = max_key_bytes

    def init(self, capacity: int) -> IncidentState:
        return IncidentState(
            head=np.zeros(timers.BUCKETS, np.int64),
            clock=np.zeros(3, np.int64),
            link=np.zeros((capacity, 3), np.int64),
            phase=np.zeros(capacity, np.uint8),
            whole=np.zeros((capacity, 9), np.int64),
            real=np.zeros((capacity, 5)),
            key=np.zeros((capacity, self._max_key_bytes), np.uint8),
        )

    def step(self, state: IncidentState, batch: Verdicts) -> Alerts:
        """Rows of `Alerts.row` are rows of `batch`; a resolution has none but keeps its last flag's score."""
        scores = batch.scores
        judged = _Judged(scores.features.row, scores.score, batch.threshold, batch.p_value, batch.flag, batch.shift)
        return self._walked(state, batch, judged)

    def _walked(self, state: IncidentState, batch: Verdicts, judged: _Judged) -> Alerts:
        lines = _walk(
            alert.events_of(batch.scores.features.windows.keyed),
            judged,
            timers.wheel(state.head, state.clock, state.link),
            _Keys(state.phase, records(state.whole, _INTS), records(state.real, _REAL), state.key),
            self._options,
            alert.lines(self._max_key_bytes),
        )
        return alert.columns(lines)


class OutOfRange(Incidents):
    """Fold[IncidentState, Verdicts, Alerts] of values outside their valid range. It keeps no state unless enabled.

    `row` is -1, the score and the p-value NaN. Every event counts, scored or not, that is not quiet.
    """

    def __init__(self, section: config.Incidents, max_key_bytes: int, enabled: bool) -> None:
        super().__init__(section, max_key_bytes, Rule.range)
        self._enabled = enabled

    def init(self, capacity: int) -> IncidentState:
        state = super().init(capacity if self._enabled else 0)
        return state if self._enabled else replace(state, head=state.head[:0], clock=state.clock[:0])

    def step(self, state: IncidentState, batch: Verdicts) -> Alerts:
        if not self._enabled:
            return alert.columns(alert.lines(self._max_key_bytes))
        keyed = batch.scores.features.windows.keyed
        row = np.flatnonzero(~keyed.quiet)
        none = np.full(len(row), np.nan)
        judged = _Judged(row, none, none, none, keyed.outside[row] >= 0, np.zeros(len(row), np.bool_))
        alerts = self._walked(state, batch, judged)
        return replace(alerts, row=np.full(len(alerts), -1, np.int64))


@kernel
def _write(lines: Lines, rule: int, phase: int, offset: int, watermark: int, row: int, keys: _Keys, s: int) -> Lines:
    ints, real = keys.ints[s], keys.real[s]
    lines = alert.add(lines, keys.name[s], ints.key_bytes)
    line = lines.line[lines.written[0] - 1]
    line.rule, line.phase, line.offset, line.row = rule, phase, offset, row
    line.incident = offset if rule == _SHIFT else ints.incident
    line.about, line.ts_ms, line.opened_ms, line.events = ints.about, ints.about_ms, ints.opened_ms, ints.events
    line.score, line.threshold, line.p_value, line.peak_p = real.score, real.threshold, real.p_value, real.peak_p
    line.expected_ms, line.silent_ms, line.slot, line.now_ms = 0, 0, s, watermark
    return lines


@kernel
def _close(lines: Lines, rule: int, offset: int, watermark: int, keys: _Keys, s: int) -> Lines:
    if keys.phase[s] == _REPORTED:
        lines = _write(lines, rule, _RESOLVED, offset, watermark, -1, keys, s)
    keys.phase[s] = _CLOSED
    return lines


@kernel
def _flagged(
    lines: Lines, events: Events, i: int, judged: _Judged, row: int, wheel: Wheel, keys: _Keys, options: _Options
) -> Lines:
    s, offset, ts_ms, watermark = events.slot[i], events.offset[i], events.ts_ms[i], events.watermark[i]
    p, shift = judged.p_value[row], judged.shift[row]
    phase, ints, real = keys.phase, keys.ints[s], keys.real[s]
    if phase[s] == _CLOSED and ts_ms - ints.alerted_ms < options.cooldown_ms:
        phase[s] = _SILENT
    elif phase[s] == _NONE or phase[s] == _CLOSED:
        ints.incident, ints.opened_ms, ints.events, ints.unrest_ms = offset, ts_ms, 0, ts_ms
        ints.key_bytes = alert.write_key(keys.name[s], events, i)
        real.peak_p = 1.0
        phase[s] = _NONE
    ints.about, ints.about_ms, ints.normal = offset, ts_ms, 0
    ints.events += 1
    real.score, real.threshold, real.p_value = judged.score[row], judged.threshold[row], p
    peak = p < real.peak_p
    real.peak_p = p if peak or p != p else real.peak_p
    timers.arm_by(s, ts_ms + options.resolve_ms, wheel)
    opening = phase[s] == _NONE
    worse = p * options.update_factor <= real.alerted_p and ts_ms - ints.alerted_ms >= options.cooldown_ms
    if opening or (worse and not shift):
        lines = _write(lines, options.rule, _OPENED if opening else _UPDATED, offset, watermark, row, keys, s)
        ints.alerted_ms, real.alerted_p = ts_ms, p
        phase[s] = _REPORTED
    elif peak and options.asks and not shift:
        lines = _write(lines, options.rule, alert.ASKED_AGAIN, offset, watermark, row, keys, s)
        phase[s] = _REPORTED
    if shift:
        lines = _write(lines, _SHIFT, _OPENED, offset, watermark, row, keys, s)
        lines = _close(lines, options.rule, offset, watermark, keys, s)
        timers.cancel(s, wheel)
    return lines


@kernel
def _skip(i: int, row: int, events: Events, judged: _Judged, wheel: Wheel, phase: U8) -> tuple[int, int, int]:
    """From event `i` and verdict `row` on: the first event that changes an incident, and a timer due there or -1.

    Most events change none. This loop does without the lines of alerts, which cost more to pass than all its work.
    """
    # taken before the loop: within it, numba would count a reference each time
    slot, fresh, watermark, scored, flag = events.slot, events.fresh, events.watermark, judged.row, judged.flag
    clock = wheel.clock[0]
    while i < len(slot):
        if i + _AHEAD < len(slot):
            prefetch(phase, slot[i + _AHEAD])
        now = phase[slot[i]]
        if fresh[i] and now != _NONE:
            return i, row, -1
        if timers.ticks(watermark[i], clock):
            due = timers.pop(watermark[i], wheel)
            if due >= 0:
                return i, row, due
        if row < len(scored) and scored[row] == i:
            if flag[row] or now in (_REPORTED, _SILENT):
                return i, row, -1
            row += 1
        i += 1
    return i, row, -1


@kernel
def _change(
    lines: Lines, events: Events, i: int, judged: _Judged, row: int, due: int, wheel: Wheel, keys: _Keys,
    options: _Options,
) -> Lines:  # fmt: skip
    """Applies event `i` to the incidents. `due` is that of `_skip`, `row` the verdict on the event."""
    s, offset, watermark = events.slot[i], events.offset[i], events.watermark[i]
    if events.fresh[i]:
        lines = _close(lines, options.rule, offset, watermark, keys, s)
        timers.cancel(s, wheel)
        keys.phase[s] = _NONE
    if due < 0:
        due = timers.pop(watermark, wheel)
    while due >= 0:
        end_ms = max(keys.ints[due].about_ms, keys.ints[due].unrest_ms) + options.resolve_ms
        if watermark <= end_ms:
            timers.arm(due, end_ms, wheel)
        else:
            lines = _close(lines, options.rule, offset, watermark, keys, due)
        due = timers.pop(watermark, wheel)
    if row == len(judged.row) or judged.row[row] != i:
        return lines
    if judged.flag[row]:
        return _flagged(lines, events, i, judged, row, wheel, keys, options)
    if keys.phase[s] in (_REPORTED, _SILENT):
        ints = keys.ints[s]
        if judged.p_value[row] < _NORMAL_P:
            ints.normal, ints.unrest_ms = 0, max(ints.unrest_ms, events.ts_ms[i])
            return lines
        ints.normal += 1
        if ints.normal >= options.resolve_rows:
            lines = _close(lines, options.rule, offset, watermark, keys, s)
            timers.cancel(s, wheel)
    return lines


@kernel
def _walk(events: Events, judged: _Judged, wheel: Wheel, keys: _Keys, options: _Options, lines: Lines) -> Lines:
    i, row, due = _skip(0, 0, events, judged, wheel, keys.phase)
    while i < len(events.slot):
        lines = _change(lines, events, i, judged, row, due, wheel, keys, options)
        row += row < len(judged.row) and judged.row[row] == i
        i, row, due = _skip(i + 1, row, events, judged, wheel, keys.phase)
    return lines
