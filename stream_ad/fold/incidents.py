"""From flags to alerts: consecutive anomalous rows of a key are one incident.

* *opened* with the first flagged row; the incident is named by that row's offset.
* *updated* when the p-value has fallen by `update_factor` since the incident's last opened or
  updated alert, and `cooldown` has passed since that alert.
* *resolved* after `resolve_rows` normal rows in a row, or when the watermark passes the last
  flag by `resolve_after` (whichever key's event moves it), or when the key is forgotten.
* A flag within `cooldown` of the incident's last opened or updated alert continues the same
  incident silently, and its end is then silent too: whoever reads the alerts was told of the
  end already. Only an update tells of it again (and then a resolution follows).
* A level shift ends the incident: one alert of rule shift, then the resolution.
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

_NONE, _TOLD, _QUIET, _CLOSED = range(4)  # told, quiet: open, with or without the reader's knowing
_SHIFT, _SCORE = int(Rule.shift), int(Rule.score)
_OPENED, _UPDATED, _RESOLVED = int(Phase.opened), int(Phase.updated), int(Phase.resolved)

# columns of IncidentState.whole
_INCIDENT, _OPENED_MS, _ABOUT, _ABOUT_MS, _EVENTS, _NORMAL, _ALERTED_MS, _KEY_BYTES = range(8)
# columns of IncidentState.real; the first four as in alert_kernel
_PEAK_P, _ALERTED_P = alert.PEAK_P, 4

_AHEAD = 16  # rows


@dataclass(slots=True)
class IncidentState:
    head: I64  # [512]  timers, as the next two
    clock: I64  # [3]
    link: I64 = per_key()  # [capacity,3]
    phase: U8 = per_key()  # [capacity]  all that a normal row looks at
    whole: I64 = per_key()  # [capacity,8]
    real: F64 = per_key()  # [capacity,5]  score, threshold, p of the last flag; lowest p; p last alerted
    key: U8 = per_key()  # [capacity,max_key_bytes]  of a key that had an incident


class Incidents:
    """Fold[IncidentState, Verdicts, Alerts]; the module says how."""

    def __init__(self, section: config.Incidents, max_key_bytes: int) -> None:
        self._section = section
        self._max_key_bytes = max_key_bytes

    def init(self, capacity: int) -> IncidentState:
        return IncidentState(
            head=np.zeros(timers.BUCKETS, np.int64),
            clock=np.zeros(3, np.int64),
            link=np.zeros((capacity, 3), np.int64),
            phase=np.zeros(capacity, np.uint8),
            whole=np.zeros((capacity, 8), np.int64),
            real=np.zeros((capacity, 5)),
            key=np.zeros((capacity, self._max_key_bytes), np.uint8),
        )

    def step(self, state: IncidentState, batch: Verdicts) -> Alerts:
        """Rows of `Alerts.row` are rows of `batch`; a resolution has none but keeps its last flag's score."""
        keyed = batch.scores.features.windows.keyed
        section = self._section
        k, whole, real, keys = _walk(
            keyed.slot, keyed.fresh, keyed.watermark, keyed.events.offset, keyed.events.ts_ms,
            alert.readonly(keyed.events.key.data), keyed.events.key.start,
            batch.scores.features.row, batch.scores.score, batch.threshold, batch.p_value, batch.flag, batch.shift,
            state.head, state.clock, state.link, state.phase, state.whole, state.real, state.key,
            section.resolve_after, section.resolve_rows, section.cooldown, section.update_factor,
            *alert.rows(self._max_key_bytes),
        )  # fmt: skip
        return alert.columns(k, whole, real, keys)


@kernel
def _tell(
    k: int, rows: Rows, rule: int, phase: int, offset: int, row: int, whole: I64, real: F64, key: U8
) -> tuple[int, Rows]:
    out, out_real, out_key = alert.room(k, rows[0], rows[1], rows[2])
    line = out[k]
    line[alert.RULE], line[alert.PHASE], line[alert.OFFSET], line[alert.ROW] = rule, phase, offset, row
    line[alert.INCIDENT] = offset if rule == _SHIFT else whole[_INCIDENT]
    line[alert.ABOUT], line[alert.TS_MS] = whole[_ABOUT], whole[_ABOUT_MS]
    line[alert.OPENED_MS], line[alert.EVENTS] = whole[_OPENED_MS], whole[_EVENTS]
    line[alert.KEY_BYTES] = whole[_KEY_BYTES]
    out_real[k] = real[:4]
    out_key[k] = key
    return k + 1, (out, out_real, out_key)


@kernel
def _walk(
    slot: I32, fresh: Bool, watermark: I64, offset: I64, ts_ms: I64, key_data: U8, key_start: I64,
    scored: I64, score: F64, threshold: F64, p_value: F64, flag: Bool, shift: Bool,
    head: I64, clock: I64, link: I64, phase: U8, whole: I64, real: F64, key: U8,
    resolve_ms: int, resolve_rows: int, cooldown_ms: int, update_factor: float,
    out: I64, out_real: F64, out_key: U8,
) -> tuple[int, I64, F64, U8]:  # fmt: skip
    k = 0
    rows = (out, out_real, out_key)
    j = 0
    for i in range(len(slot)):
        if i + _AHEAD < len(slot):
            prefetch(phase, slot[i + _AHEAD])
        s = slot[i]
        if fresh[i]:
            if phase[s] == _TOLD:
                k, rows = _tell(k, rows, _SCORE, _RESOLVED, offset[i], -1, whole[s], real[s], key[s])
            timers.cancel(s, head, link)
            phase[s] = _NONE
        due = timers.pop(watermark[i], head, clock, link)
        while due >= 0:
            if watermark[i] <= whole[due, _ABOUT_MS] + resolve_ms:
                timers.arm(due, whole[due, _ABOUT_MS] + resolve_ms, head, clock, link)
            else:
                if phase[due] == _TOLD:
                    k, rows = _tell(k, rows, _SCORE, _RESOLVED, offset[i], -1, whole[due], real[due], key[due])
                phase[due] = _CLOSED
            due = timers.pop(watermark[i], head, clock, link)
        if j == len(scored) or scored[j] != i:
            continue
        row = j
        j += 1
        if not flag[row]:
            if phase[s] == _TOLD or phase[s] == _QUIET:
                whole[s, _NORMAL] += 1
                if whole[s, _NORMAL] >= resolve_rows:
                    if phase[s] == _TOLD:
                        k, rows = _tell(k, rows, _SCORE, _RESOLVED, offset[i], -1, whole[s], real[s], key[s])
                    timers.cancel(s, head, link)
                    phase[s] = _CLOSED
            continue

        told, numbers, p = whole[s], real[s], p_value[row]
        if phase[s] == _CLOSED and ts_ms[i] - told[_ALERTED_MS] < cooldown_ms:
            phase[s] = _QUIET
        elif phase[s] == _NONE or phase[s] == _CLOSED:
            told[_INCIDENT], told[_OPENED_MS], told[_EVENTS] = offset[i], ts_ms[i], 0
            told[_KEY_BYTES] = alert.write_key(key[s], key_data, key_start[i], key_start[i + 1])
            numbers[_PEAK_P] = 1.0
            phase[s] = _NONE
        told[_ABOUT], told[_ABOUT_MS], told[_NORMAL] = offset[i], ts_ms[i], 0
        told[_EVENTS] += 1
        numbers[alert.SCORE], numbers[alert.THRESHOLD], numbers[alert.P_VALUE] = score[row], threshold[row], p
        numbers[_PEAK_P] = min(numbers[_PEAK_P], p)
        timers.arm_by(s, ts_ms[i] + resolve_ms, head, clock, link)
        opening = phase[s] == _NONE
        if opening or (
            p * update_factor <= numbers[_ALERTED_P] and ts_ms[i] - told[_ALERTED_MS] >= cooldown_ms and not shift[row]
        ):
            k, rows = _tell(k, rows, _SCORE, _OPENED if opening else _UPDATED, offset[i], row, told, numbers, key[s])
            told[_ALERTED_MS], numbers[_ALERTED_P] = ts_ms[i], p
            phase[s] = _TOLD
        if shift[row]:
            k, rows = _tell(k, rows, _SHIFT, _OPENED, offset[i], row, told, numbers, key[s])
            if phase[s] == _TOLD:
                k, rows = _tell(k, rows, _SCORE, _RESOLVED, offset[i], -1, told, numbers, key[s])
            timers.cancel(s, head, link)
            phase[s] = _CLOSED
    return k, rows[0], rows[1], rows[2]
