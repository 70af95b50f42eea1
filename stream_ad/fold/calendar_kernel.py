"""The quiet times of a calendar in arrays, and the loops that look them up."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_ad.batch import I64, U8, Bool
from stream_ad.kernel import kernel

MINUTE_MS, DAY_MS = 60_000, 86_400_000
THURSDAY = 3  # weekday of 1970-01-01, counted from Monday
ANY_TEXT, ANY_CHARACTER = ord("*"), ord("?")


class QuietTimes(NamedTuple):
    """c quiet times; `x_of` [c+1] says where those of each begin in `x`."""

    once: I64  # [c,2]  ms, the second exclusive; 0 and 0 = again and again
    minutes: I64  # [c,2]  of the local day; the second may lie on the next day
    weekdays: I64  # [c]  bits, Monday first
    dates: I64  # days since 1970-01-01, ascending within each
    dates_of: I64
    shift_ms: I64  # [t]  moments at which the zone's offset from UTC changes, ascending within each
    offset_ms: I64  # [t]  the offset from there on
    shifts_of: I64
    pattern: U8  # of keys, one after another
    pattern_start: I64  # [p+1]
    patterns_of: I64


@kernel
def quiet_until(times: QuietTimes, key: U8, size: int, ms: int) -> int:
    """The end of the quiet time that covers a moment for a key of `size` bytes, the latest of several; -1 = none."""
    latest = -1
    for c in range(len(times.once)):
        end = _end(times, c, ms)
        if end > latest and _holds_for(times, c, key, size):
            latest = end
    return latest


@kernel
def mark(times: QuietTimes, ts_ms: I64, data: U8, start: I64, quiet: Bool) -> None:
    """Keys in Arrow's layout -> whether each event [n] lies in a quiet time of its key."""
    for i in range(len(ts_ms)):
        key = data[start[i] : start[i + 1]]
        quiet[i] = quiet_until(times, key, len(key), ts_ms[i]) >= 0


@kernel
def _end(times: QuietTimes, c: int, ms: int) -> int:
    first, last = times.once[c, 0], times.once[c, 1]
    if last > first:
        return last if first <= ms < last else -1
    local = ms + _offset(times, c, ms)
    day = local // DAY_MS
    minute = (local - day * DAY_MS) // MINUTE_MS
    begin, end = times.minutes[c, 0], times.minutes[c, 1]
    if begin < end:
        if not (begin <= minute < end and _falls_on(times, c, day)):
            return -1
        ending = day * DAY_MS + end * MINUTE_MS
    elif minute >= begin and _falls_on(times, c, day):
        ending = (day + 1) * DAY_MS + end * MINUTE_MS
    elif minute < end and _falls_on(times, c, day - 1):
        ending = day * DAY_MS + end * MINUTE_MS
    else:
        return -1
    # the clocks may be put back or forward within the window
    return int(max(ending - _offset(times, c, ending - _offset(times, c, ms)), ms + 1))


@kernel
def _offset(times: QuietTimes, c: int, ms: int) -> int:
    first, last = times.shifts_of[c], times.shifts_of[c + 1]
    at = np.searchsorted(times.shift_ms[first:last], ms, side="right")
    return int(times.offset_ms[first + max(at - 1, 0)])


@kernel
def _falls_on(times: QuietTimes, c: int, day: int) -> bool:
    first, last = times.dates_of[c], times.dates_of[c + 1]
    if times.weekdays[c] == 0 and first == last:
        return True
    if (times.weekdays[c] >> ((day + THURSDAY) % 7)) & 1:
        return True
    at = first + np.searchsorted(times.dates[first:last], day)
    return bool(at < last and times.dates[at] == day)


@kernel
def _holds_for(times: QuietTimes, c: int, key: U8, size: int) -> bool:
    for p in range(times.patterns_of[c], times.patterns_of[c + 1]):
        if _matches(times.pattern, times.pattern_start[p], times.pattern_start[p + 1], key, size):
            return True
    return False


@kernel
def _matches(pattern: U8, first: int, last: int, key: U8, size: int) -> bool:
    """Whether bytes `first` to `last` of the patterns match the key; where one fails, the latest `*` takes one more."""
    p, k, star, taken = first, 0, -1, 0
    while k < size:
        if p < last and pattern[p] == ANY_TEXT:
            star, taken = p, k
            p += 1
        elif p < last and pattern[p] == ANY_CHARACTER:
            p += 1
            k += 1
            while k < size and key[k] & 0xC0 == 0x80:  # the further bytes of a character
                k += 1
        elif p < last and pattern[p] == key[k]:
            p += 1
            k += 1
        elif star >= 0:
            taken += 1
            p, k = star + 1, taken
        else:
            return False
    while p < last and pattern[p] == ANY_TEXT:
        p += 1
    return bool(p == last)
