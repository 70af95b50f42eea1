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

import numpy as np

from stream_ad import config
from stream_ad.batch import F64, I32, I64, U8, Alerts, Bool, Phase, Rule, Verdicts
from stream_ad.fold import alert_kernel as alert
from stream_ad.fold import timers
from stream_ad.fold.alert_kernel import Rows
from stream_ad.fold.state import per_key
from stream_ad.kernel import kernel, prefetch

_SILENCE, _OPENED, _RESOLVED = int(Rule.silence), int(Phase.opened), int(Phase.resolved)

# columns of SilenceState.whole
_EVENTS, _LIVE_MS, _ABOUT, _ABOUT_MS, _INCIDENT, _OPENED_MS, _EXPECTED_MS, _KEY_BYTES = range(8)  # expected 0: speaks
_MEAN, _VAR = 0, 1  # columns of SilenceState.gap
_NOW, _WATERMARK, _STARTED = 0, 1, 2  # of SilenceState.live

_HALF_LIFE_GAPS = 100.0
_ALPHA = 1.0 - 0.5 ** (1.0 / _HALF_LIFE_GAPS)
_SHORTEST_MS = 1_000  # of min_gap, for live time: with no min_gap at all it would stand still
_AHEAD = 8  # rows


@dataclass(slots=True)
class SilenceState:
    live: I64  # [3]  live time, the watermark it has come to, whether it has begun
    head: I64  # [512]  timers on live time, as the next two
    clock: I64  # [3]
    link: I64 = per_key()  # [capacity,3]
    whole: I64 = per_key()  # [capacity,8]
    gap: F64 = per_key()  # [capacity,2]  mean and variance, ms of live time
    key: U8 = per_key()  # [capacity,max_key_bytes]


class Silence:
    """Fold[SilenceState, Verdicts, Alerts]; the module says how. Keeps no state unless enabled."""

    def __init__(self, section: config.Silence, max_key_bytes: int) -> None:
        self._section = section
        self._max_key_bytes = max_key_bytes

    def init(self, capacity: int) -> SilenceState:
        if not self._section.enabled:
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

        `opened_ms` is the watermark at which it was found; no score is meant (NaN), no events count.
        """
        rows = alert.rows(self._max_key_bytes)
        if not self._section.enabled:
            return alert.columns(0, *rows)
        keyed = batch.scores.features.windows.keyed
        section = self._section
        k, whole, real, keys = _walk(
            keyed.slot, keyed.fresh, keyed.watermark, keyed.events.offset, keyed.events.ts_ms,
            alert.readonly(keyed.events.key.data), keyed.events.key.start,
            state.live, state.head, state.clock, state.link, state.whole, state.gap, state.key,
            section.min_gap, section.deviations, section.min_events, *rows,
        )  # fmt: skip
        return alert.columns(k, whole, real, keys)


@kernel
def _tell(k: int, rows: Rows, phase: int, offset: int, whole: I64, key: U8) -> tuple[int, Rows]:
    out, out_real, out_key = alert.room(k, rows[0], rows[1], rows[2])
    line = out[k]
    line[alert.RULE], line[alert.PHASE], line[alert.OFFSET], line[alert.ROW] = _SILENCE, phase, offset, -1
    line[alert.INCIDENT], line[alert.OPENED_MS] = whole[_INCIDENT], whole[_OPENED_MS]
    line[alert.ABOUT], line[alert.TS_MS] = whole[_ABOUT], whole[_ABOUT_MS]
    line[alert.EXPECTED_MS], line[alert.KEY_BYTES] = whole[_EXPECTED_MS], whole[_KEY_BYTES]
    line[alert.EVENTS] = 0
    out_real[k] = np.nan
    out_key[k] = key
    return k + 1, (out, out_real, out_key)


@kernel
def _allowed_ms(gap: F64, min_gap: int, deviations: float) -> int:
    return max(min_gap, int(np.ceil(gap[_MEAN] + deviations * np.sqrt(gap[_VAR]))))


@kernel
def _walk(
    slot: I32, fresh: Bool, watermark: I64, offset: I64, ts_ms: I64, key_data: U8, key_start: I64,
    live: I64, head: I64, clock: I64, link: I64, whole: I64, gap: F64, key: U8,
    min_gap: int, deviations: float, min_events: int,
    out: I64, out_real: F64, out_key: U8,
) -> tuple[int, I64, F64, U8]:  # fmt: skip
    k = 0
    rows = (out, out_real, out_key)
    longest = max(min_gap, _SHORTEST_MS) // 2
    for i in range(len(slot)):
        if i + _AHEAD < len(slot):
            prefetch(whole, slot[i + _AHEAD])
            prefetch(gap, slot[i + _AHEAD])
            prefetch(link, slot[i + _AHEAD])
        if live[_STARTED]:
            live[_NOW] += min(max(watermark[i] - live[_WATERMARK], 0), longest)
        live[_WATERMARK], live[_STARTED] = watermark[i], 1
        now = live[_NOW]

        s = slot[i]
        said, rhythm = whole[s], gap[s]
        if fresh[i]:
            timers.cancel(s, head, link)
            said[:] = 0
            rhythm[:] = 0.0
        if said[_EXPECTED_MS] > 0:
            k, rows = _tell(k, rows, _RESOLVED, offset[i], said, key[s])
            said[_EXPECTED_MS] = 0
        gaps = said[_EVENTS] - 1
        if gaps < 0:
            said[_KEY_BYTES] = alert.write_key(key[s], key_data, key_start[i], key_start[i + 1])
        else:
            length = float(now - said[_LIVE_MS])
            if said[_EVENTS] >= min_events:
                # a silence must not stretch the rhythm it was measured by, a new rhythm must get through
                length = min(length, float(_allowed_ms(rhythm, min_gap, deviations)))
            a = max(1.0 / (gaps + 1.0), _ALPHA)
            delta = length - rhythm[_MEAN]
            rhythm[_MEAN] += a * delta
            rhythm[_VAR] = (1.0 - a) * (rhythm[_VAR] + a * delta * delta)
        said[_EVENTS] += 1
        said[_LIVE_MS], said[_ABOUT], said[_ABOUT_MS] = now, offset[i], ts_ms[i]
        if said[_EVENTS] >= min_events:
            timers.arm_by(s, now + _allowed_ms(rhythm, min_gap, deviations), head, clock, link)

        due = timers.pop(now, head, clock, link)
        while due >= 0:
            allowed = _allowed_ms(gap[due], min_gap, deviations)
            if now <= whole[due, _LIVE_MS] + allowed:
                timers.arm(due, whole[due, _LIVE_MS] + allowed, head, clock, link)
            else:
                whole[due, _INCIDENT], whole[due, _OPENED_MS] = offset[i], watermark[i]
                whole[due, _EXPECTED_MS] = max(allowed, 1)
                k, rows = _tell(k, rows, _OPENED, offset[i], whole[due], key[due])
            due = timers.pop(now, head, clock, link)
    return k, rows[0], rows[1], rows[2]
