"""ISO 8601 texts and numbers since the epoch, to milliseconds (UTC)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import NoneType
from typing import Any

import numpy as np

from stream_ad.batch import F64, I64, U8, Strings
from stream_ad.kernel import kernel

END_MS = 9_214_646_400_000  # 2262-01-01T00:00:00Z: nanoseconds since the epoch fit an int64 until then
_TO_MS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}  # unit -> (times, divided by)


def of_iso(column: Strings) -> I64:
    """int64 [n] ms of each row; -1 where it is no such time, or outside 1970 to 2261.

    `YYYY-MM-DD`, alone (midnight) or with `T` or a space and `HH:MM`, `HH:MM:SS` or
    `HH:MM:SS.fraction` of any length (cut, not rounded, to ms), then nothing (UTC), `Z`, `+HH`,
    `+HHMM` or `+HH:MM`. No leap seconds, no week dates.
    """
    return _of_iso(column.data, column.start)


def of_numbers(leaves: Sequence[Any], unit: str) -> I64:
    """int64 [n] ms of ints and floats since the epoch in s, ms, us or ns; -1 as above, or for anything else.

    Ints are exact. Floats are read to the nearest microsecond, which is what seconds as a double
    can hold, and then cut to ms.
    """
    times, divisor = _TO_MS[unit]
    end = END_MS * divisor // times
    kinds = set(map(type, leaves))
    if kinds == {int}:
        with contextlib.suppress(OverflowError):
            ms = np.fromiter(leaves, np.int64, len(leaves))
            if ms.min() >= 0 and ms.max() < end:
                return ms * times // divisor
    if kinds <= {float, NoneType}:
        return _of_floats(np.array(leaves, np.float64), times / divisor)
    ms = np.full(len(leaves), -1, np.int64)
    for row, leaf in enumerate(leaves):
        if type(leaf) is int and 0 <= leaf < end:
            ms[row] = leaf * times // divisor
        elif type(leaf) is float:
            ms[row] = _of_floats(np.array([leaf]), times / divisor)[0]
    return ms


def written(ms: int, form: str) -> str | int | float:
    """A time in milliseconds as what `of_iso` (for the form `iso`) or `of_numbers` reads back."""
    if form == "iso":
        return f"{np.datetime64(ms, 'ms')}Z"
    times, divisor = _TO_MS[form]
    return ms / times if times > 1 else ms * divisor


def _of_floats(values: F64, to_ms: float) -> I64:
    inside = (values >= 0) & (values < END_MS / to_ms)
    us = np.rint(np.where(inside, values, 0.0) * (to_ms * 1000)).astype(np.int64)
    return np.where(inside & (us < END_MS * 1000), us // 1000, -1)


@kernel
def _of_iso(data: U8, start: I64) -> I64:
    ms = np.empty(len(start) - 1, np.int64)
    for row in range(len(ms)):
        ms[row] = _one(data, start[row], start[row + 1])
    return ms


@kernel
def _one(data: U8, at: int, end: int) -> int:
    if end - at < 10 or data[at + 4] != 45 or data[at + 7] != 45:  # -
        return -1
    year, month, day = _digits(data, at, 4), _digits(data, at + 5, 2), _digits(data, at + 8, 2)
    if year < 0 or month < 1 or month > 12 or day < 1 or day > _month_days(year, month):
        return -1
    minutes = _epoch_days(year, month, day) * 1440
    sub_ms = 0
    at += 10
    if at < end:
        separator = data[at]
        if (
            (separator != 84 and separator != 116 and separator != 32) or end - at < 6 or data[at + 3] != 58
        ):  # T t space :
            return -1
        hour, minute = _digits(data, at + 1, 2), _digits(data, at + 4, 2)
        if hour < 0 or hour > 23 or minute < 0 or minute > 59:
            return -1
        minutes += hour * 60 + minute
        at += 6
        if at < end and data[at] == 58:
            if end - at < 3:
                return -1
            second = _digits(data, at + 1, 2)
            if second < 0 or second > 59:
                return -1
            sub_ms = second * 1000
            at += 3
            if at < end and (data[at] == 46 or data[at] == 44):  # . ,
                at += 1
                scale = 100
                first = at
                while at < end and 48 <= data[at] <= 57:
                    sub_ms += (int(data[at]) - 48) * scale
                    scale //= 10
                    at += 1
                if at == first:
                    return -1
        offset = _offset_minutes(data, at, end)
        if offset == _NO_OFFSET:
            return -1
        minutes -= offset
    ms = minutes * 60_000 + sub_ms
    return ms if 0 <= ms < END_MS else -1


_NO_OFFSET = 1 << 20


@kernel
def _offset_minutes(data: U8, at: int, end: int) -> int:
    length = end - at
    if length == 0 or (length == 1 and (data[at] == 90 or data[at] == 122)):  # Z z
        return 0
    if (data[at] != 43 and data[at] != 45) or (length != 3 and length != 5 and length != 6):  # + -
        return _NO_OFFSET
    hours: int = _digits(data, at + 1, 2)
    minutes: int = 0
    if length == 5:
        minutes = _digits(data, at + 3, 2)
    elif length == 6:
        minutes = _digits(data, at + 4, 2) if data[at + 3] == 58 else -1  # :
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return _NO_OFFSET
    return hours * 60 + minutes if data[at] == 43 else -(hours * 60 + minutes)


@kernel
def _digits(data: U8, at: int, count: int) -> int:
    value = 0
    for place in range(at, at + count):
        digit = int(data[place]) - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


@kernel
def _month_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@kernel
def _epoch_days(year: int, month: int, day: int) -> int:
    # Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil
    year -= month <= 2
    era_year = year % 400
    year_day = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year // 400 * 146_097 + era_year * 365 + era_year // 4 - era_year // 100 + year_day - 719_468
