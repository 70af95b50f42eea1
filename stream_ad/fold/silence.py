"""Keys that stop speaking while their partition goes on.

*Live time* is what a key's silence is measured in: the sum of the watermark's advances, none of
them counted for more than half of `min_gap`. In a busy partition that is event time. When a
whole partition pauses, the event that ends the pause moves the watermark by all of it at once
and no key had a chance to speak: live time goes on by `min_gap / 2` then, nobody is late by
the pause alone, and no rhythm is learnt from it. In a partition so sparse that events lie further
apart, live time runs slower than event time, for the rhythm and for the silence alike.

A key's rhythm is the exponentially weighted mean and variance of the gaps between its events.
It is silent once live time has passed its last event by `max(min_gap, mean + deviations * std)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stream_ad import config
from stream_ad.batch import F64, I64, U8, Alerts, Phase, Rule, Verdicts
from stream_ad.fold import alert_kernel as alert
from stream_ad.fold import ewma, timers
from stream_ad.fold.alert_kernel import Events, Lines
from stream_ad.fold.state import Records, per_key, records
from stream_ad.fold.timers import Wheel
from stream_ad.kernel import kernel, prefetch

_SILENCE, _OPENED, _RESOLVED = int(Rule.silence), int(Phase.opened), int(Phase.resolved)

_LIVE = np.dtype(
    [
        ("now", "i8"),  # live time, ms
        ("watermark", "i8"),  # that live time has come to
        ("started", "i8"),
    ]
)
_WHOLE = np.dtype(
    [
        ("events", "i8"),
        ("live_ms", "i8"),  # live time of the last event
        ("about", "i8"),  # offset of the last event
        ("about_ms", "i8"),  # its event time
        ("incident", "i8"),  # offset of the event that made the silence due
        ("opened_ms", "i8"),  # the watermark at that event
        ("expected_ms", "i8"),  # the gap that was allowed; 0 = the key is not silent
        ("key_bytes", "i8"),
    ]
)
_GAP = np.dtype([("mean", "f8"), ("variance", "f8")])  # ms of live time

_HALF_LIFE_GAPS = 100.0
_ALPHA = 1.0 - 0.5 ** (1.0 / _HALF_LIFE_GAPS)
_SHORTEST_MS = 1_000  # of min_gap, for live time: with no min_gap at all it would stand still
_AHEAD = 8  # rows


@dataclass(slots=True)
class SilenceState:
    live: I64  # [3]  _LIVE
    head: I64  # [512]  timers on live time, as the next two
    clock: I64  # [3]
    link: I64 = per_key()  # [capacity,3]
    whole: I64 = per_key()  # [capacity,8]  _WHOLE
    gap: F64 = per_key()  # [capacity,2]  _GAP
    key: U8 = per_key()  # [capacity,max_key_bytes]


class _Keys(NamedTuple):
    """What is known of the keys, [capacity] each."""

    whole: Records
    gap: Records
    name: U8


class _Options(NamedTuple):
    min_gap: int
    deviations: float
    min_events: int


class Silence:
    """Fold[SilenceState, Verdicts, Alerts]; the module says how. Keeps no state unless enabled."""

    def __init__(self, section: config.Silence, max_key_bytes: int) -> None:
        self._enabled = section.enabled
        self._options = _Options(section.min_gap, float(section.deviations), section.min_events)
        self._max_key_bytes = max_key_bytes

    def init(self, capacity: int) -> SilenceState:
        if not self._enabled:
            capacity = 0
        return SilenceState(
            live=np.zeros(3, np.int64),
            head=np.zeros(timers.BUCKETS, np.int64),
            clock=np.zeros(3, np.int64),
            link=np.zeros((capacity, 3), np.int64),
            whole=np.zeros((capacity, 8), np.int64),
            gap=np.zeros((capacity, 2)),
            key=np.zeros((capacity, self._max_key_bytes), np.uint8),
        )

    def step(self, state: SilenceState, batch: Verdicts) -> Alerts:
        """`about` and `ts_ms` are the last event before the silence, also when it is resolved.

        `opened_ms` is the watermark at which it was noticed; no score is meant (NaN), no events count.
        """
        lines = alert.lines(self._max_key_bytes)
        if self._enabled:
            lines = _walk(
                alert.events_of(batch.scores.features.windows.keyed),
                records(state.live, _LIVE),
                timers.wheel(state.head, state.clock, state.link),
                _Keys(records(state.whole, _WHOLE), records(state.gap, _GAP), state.key),
                self._options,
                lines,
            )
        return alert.columns(lines)


@kernel
def _write(lines: Lines, phase: int, offset: int, keys: _Keys, s: int) -> Lines:
    whole = keys.whole[s]
    lines = alert.add(lines, keys.name[s], whole.key_bytes)
    line = lines.line[lines.written[0] - 1]
    line.rule, line.phase, line.offset, line.row = _SILENCE, phase, offset, -1
    line.incident, line.opened_ms, line.events = whole.incident, whole.opened_ms, 0
    line.about, line.ts_ms, line.expected_ms = whole.about, whole.about_ms, whole.expected_ms
    line.score = line.threshold = line.p_value = line.peak_p = np.nan
    return lines


@kernel
def _allowed_ms(gap: Any, options: _Options) -> int:
    return max(options.min_gap, int(np.ceil(gap.mean + options.deviations * np.sqrt(gap.variance))))


@kernel
def _learn(whole: Any, gap: Any, now: int, options: _Options) -> None:
    length = float(now - whole.live_ms)
    if whole.events >= options.min_events:
        # a silence must not stretch the rhythm it was measured by, a new rhythm must get through
        length = min(length, float(_allowed_ms(gap, options)))
    gap.mean, gap.variance = ewma.moved(gap.mean, gap.variance, max(1.0 / whole.events, _ALPHA), length)


@kernel
def _open_due(
    s: int, lines: Lines, offset: int, watermark: int, now: int, wheel: Wheel, keys: _Keys, options: _Options
) -> Lines:
    while s >= 0:
        whole, allowed = keys.whole[s], _allowed_ms(keys.gap[s], options)
        if now <= whole.live_ms + allowed:
            timers.arm(s, whole.live_ms + allowed, wheel)
        else:
            whole.incident, whole.opened_ms, whole.expected_ms = offset, watermark, max(allowed, 1)
            lines = _write(lines, _OPENED, offset, keys, s)
        s = timers.pop(now, wheel)
    return lines


@kernel
def _walk(events: Events, live: Records, wheel: Wheel, keys: _Keys, options: _Options, lines: Lines) -> Lines:
    # a field that is taken within the loop is counted as a new reference every time
    slot, fresh, watermark, offset, ts_ms = events.slot, events.fresh, events.watermark, events.offset, events.ts_ms
    wholes, gaps, links, clock, alive = keys.whole, keys.gap, wheel.link, wheel.clock[0], live[0]
    longest = max(options.min_gap, _SHORTEST_MS) // 2
    for i in range(len(slot)):
        if i + _AHEAD < len(slot):
            prefetch(wholes, slot[i + _AHEAD])
            prefetch(gaps, slot[i + _AHEAD])
            prefetch(links, slot[i + _AHEAD])
        if alive.started:
            alive.now += min(max(watermark[i] - alive.watermark, 0), longest)
        alive.watermark, alive.started = watermark[i], 1
        now = alive.now

        s = slot[i]
        whole, gap = wholes[s], gaps[s]
        if fresh[i]:
            timers.cancel(s, wheel)
            whole.events = whole.incident = whole.opened_ms = whole.expected_ms = 0
            gap.mean = gap.variance = 0.0
        if whole.expected_ms > 0:
            lines = _write(lines, _RESOLVED, offset[i], keys, s)
            whole.expected_ms = 0
        if whole.events == 0:
            whole.key_bytes = alert.write_key(keys.name[s], events, i)
        else:
            _learn(whole, gap, now, options)
        whole.events += 1
        whole.live_ms, whole.about, whole.about_ms = now, offset[i], ts_ms[i]
        if whole.events >= options.min_events:
            timers.arm_by(s, now + _allowed_ms(gap, options), wheel)
        if timers.ticks(now, clock):
            due = timers.pop(now, wheel)
            if due >= 0:
                lines = _open_due(due, lines, offset[i], watermark[i], now, wheel, keys, options)
    return lines
