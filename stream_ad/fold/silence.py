"""Finds keys without events while their partition goes on.

The silence of a key is measured in *live time*: the sum of the watermark's advances, each counted as half of
`min_gap` at most. In a busy partition live time is event time. When a whole partition pauses, no key could send
anything, and the event that ends the pause moves the watermark by all of the pause. Live time then advances by
`min_gap / 2` only, so the pause alone makes no key silent and changes no rhythm. In a sparse partition, whose events
lie further apart than that, live time runs slower than event time, for rhythms and silences alike.

A key's rhythm is the exponentially weighted mean and variance of the gaps between its events. The key is silent once
live time has passed its last event by `max(min_gap, mean + deviations * std)`.

With a budget a silence asks again (`alert_kernel.ASKED_AGAIN`) each time that it has doubled: one that
`stream_ad.fold.budget` held back when it began is told when it lasts.

In a quiet time of the calendar no silence begins or asks again; a key that has not spoken by the end of one is due as
if it had spoken then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stream_ad import config
from stream_ad.batch import F64, I64, U8, Alerts, Bool, Phase, Rule, Verdicts
from stream_ad.fold import alert_kernel as alert
from stream_ad.fold import ewma, timers
from stream_ad.fold.alert_kernel import Events, Lines
from stream_ad.fold.calendar import quiet_times
from stream_ad.fold.calendar_kernel import QuietTimes, quiet_until
from stream_ad.fold.state import Records, per_key, records
from stream_ad.fold.timers import Wheel
from stream_ad.kernel import kernel, prefetch

_SILENCE, _OPENED, _RESOLVED = int(Rule.silence), int(Phase.opened), int(Phase.resolved)

_LIVE = np.dtype(
    [
        ("now", "i8"),  # live time, ms
        ("watermark", "i8"),  # up to which live time is counted
        ("started", "i8"),
    ]
)
_INTS = np.dtype(
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
    whole: I64 = per_key()  # [capacity,8]  _INTS; snapshots have it under this name
    gap: F64 = per_key()  # [capacity,2]  _GAP
    key: U8 = per_key()  # [capacity,max_key_bytes]


class _Keys(NamedTuple):
    """The state of the keys, [capacity] each."""

    ints: Records
    gap: Records
    name: U8


class _Options(NamedTuple):
    min_gap: int
    deviations: float
    min_events: int
    asks: bool  # whether a budget may have held back the alert that opened a silence


class Silence:
    """Fold[SilenceState, Verdicts, Alerts], by the rules above. It keeps no state unless enabled."""

    def __init__(
        self, section: config.Silence, max_key_bytes: int, times: QuietTimes | None = None, asks: bool = False
    ) -> None:
        """`asks`: whether there is a budget."""
        self._enabled = section.enabled
        self._options = _Options(section.min_gap, float(section.deviations), section.min_events, asks)
        self._max_key_bytes = max_key_bytes
        self._times = quiet_times([]) if times is None else times

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
        """`about` and `ts_ms` are those of the last event before the silence, also when it is resolved.

        `opened_ms` is the watermark that made the key silent. The score is NaN, `events` is 0.
        """
        lines = alert.lines(self._max_key_bytes)
        if self._enabled:
            keyed = batch.scores.features.windows.keyed
            lines = _walk(
                alert.events_of(keyed),
                keyed.quiet,
                records(state.live, _LIVE),
                timers.wheel(state.head, state.clock, state.link),
                _Keys(records(state.whole, _INTS), records(state.gap, _GAP), state.key),
                self._options,
                self._times,
                lines,
            )
        return alert.columns(lines)


@kernel
def _write(lines: Lines, phase: int, offset: int, watermark: int, now: int, keys: _Keys, s: int) -> Lines:
    ints = keys.ints[s]
    lines = alert.add(lines, keys.name[s], ints.key_bytes)
    line = lines.line[lines.written[0] - 1]
    line.rule, line.phase, line.offset, line.row = _SILENCE, phase, offset, -1
    line.incident, line.opened_ms, line.events = ints.incident, ints.opened_ms, 0
    line.about, line.ts_ms, line.expected_ms = ints.about, ints.about_ms, ints.expected_ms
    line.silent_ms, line.slot, line.now_ms = now - ints.live_ms, s, watermark
    line.score = line.threshold = line.p_value = line.peak_p = np.nan
    return lines


@kernel
def _allowed_ms(gap: Any, options: _Options) -> int:
    return max(options.min_gap, int(np.ceil(gap.mean + options.deviations * np.sqrt(gap.variance))))


@kernel
def _learn(ints: Any, gap: Any, now: int, options: _Options) -> None:
    length = float(now - ints.live_ms)
    if ints.events >= options.min_events:
        # a silence must not stretch the rhythm that it was measured by, yet a slower rhythm must be learnt
        length = min(length, float(_allowed_ms(gap, options)))
    gap.mean, gap.variance = ewma.moved(gap.mean, gap.variance, max(1.0 / ints.events, _ALPHA), length)


@kernel
def _open_due(
    s: int, lines: Lines, offset: int, watermark: int, now: int, wheel: Wheel, keys: _Keys, options: _Options,
    times: QuietTimes,
) -> Lines:  # fmt: skip
    while s >= 0:
        ints, allowed = keys.ints[s], _allowed_ms(keys.gap[s], options)
        end = quiet_until(times, keys.name[s], ints.key_bytes, watermark)
        silent = ints.expected_ms > 0
        if end >= 0 and not silent:  # as if the key spoke at the end of its quiet time
            ints.live_ms = now + (end - watermark)
        if now <= ints.live_ms + allowed:
            timers.arm(s, ints.live_ms + allowed, wheel)
        else:
            if not silent:
                ints.incident, ints.opened_ms, ints.expected_ms = offset, watermark, max(allowed, 1)
                lines = _write(lines, _OPENED, offset, watermark, now, keys, s)
            elif end < 0:
                lines = _write(lines, alert.ASKED_AGAIN, offset, watermark, now, keys, s)
            if options.asks:
                timers.arm(s, now + (now - ints.live_ms), wheel)
        s = timers.pop(now, wheel)
    return lines


@kernel
def _walk(
    events: Events, quiet: Bool, live: Records, wheel: Wheel, keys: _Keys, options: _Options, times: QuietTimes,
    lines: Lines,
) -> Lines:  # fmt: skip
    # taken before the loop: within it, numba would count a reference each time
    slot, fresh, watermark, offset, ts_ms = events.slot, events.fresh, events.watermark, events.offset, events.ts_ms
    all_ints, gaps, links, clock, alive = keys.ints, keys.gap, wheel.link, wheel.clock[0], live[0]
    longest = max(options.min_gap, _SHORTEST_MS) // 2
    for i in range(len(slot)):
        if i + _AHEAD < len(slot):
            prefetch(all_ints, slot[i + _AHEAD])
            prefetch(gaps, slot[i + _AHEAD])
            prefetch(links, slot[i + _AHEAD])
        if alive.started:
            alive.now += min(max(watermark[i] - alive.watermark, 0), longest)
        alive.watermark, alive.started = watermark[i], 1
        now = alive.now

        s = slot[i]
        ints, gap = all_ints[s], gaps[s]
        if fresh[i]:
            timers.cancel(s, wheel)
            ints.events = ints.incident = ints.opened_ms = ints.expected_ms = 0
            gap.mean = gap.variance = 0.0
        if ints.expected_ms > 0:
            lines = _write(lines, _RESOLVED, offset[i], watermark[i], now, keys, s)
            ints.expected_ms = 0
        if ints.events == 0:
            ints.key_bytes = alert.write_key(keys.name[s], events, i)
        elif not quiet[i] and now >= ints.live_ms:
            _learn(ints, gap, now, options)
        ints.events += 1
        ints.live_ms, ints.about, ints.about_ms = now, offset[i], ts_ms[i]
        if ints.events >= options.min_events:
            timers.arm_by(s, now + _allowed_ms(gap, options), wheel)
        if timers.ticks(now, clock):
            due = timers.pop(now, wheel)
            if due >= 0:
                lines = _open_due(due, lines, offset[i], watermark[i], now, wheel, keys, options, times)
    return lines
