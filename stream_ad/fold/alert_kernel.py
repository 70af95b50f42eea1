"""Alerts as they are written inside a fold's loop: rows that grow, and the columns made of them.

An event may make any number of incidents due, so the number of alerts is not known before.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from stream_ad.batch import F64, I64, U8, Alerts, Strings
from stream_ad.kernel import kernel

# Columns of `whole`: as in batch.Alerts, then the length of the key; of `real` likewise.
RULE, PHASE, OFFSET, INCIDENT, ABOUT, ROW, TS_MS, OPENED_MS, EVENTS, EXPECTED_MS, KEY_BYTES = range(11)
SCORE, THRESHOLD, P_VALUE, PEAK_P = range(4)

Rows: TypeAlias = tuple[I64, F64, U8]  # [k,11], [k,4], [k,max_key_bytes]


def rows(max_key_bytes: int) -> Rows:
    return np.zeros((16, 11), np.int64), np.zeros((16, 4)), np.zeros((16, max_key_bytes), np.uint8)


@kernel
def room(k: int, whole: I64, real: F64, keys: U8) -> Rows:
    """The same rows, with a row `k`."""
    if k < len(whole):
        return whole, real, keys
    more_whole = np.zeros((2 * k, whole.shape[1]), np.int64)
    more_real = np.zeros((2 * k, real.shape[1]))
    more_keys = np.zeros((2 * k, keys.shape[1]), np.uint8)
    more_whole[:k], more_real[:k], more_keys[:k] = whole, real, keys
    return more_whole, more_real, more_keys


@kernel
def write_key(row: U8, data: U8, first: int, last: int) -> int:
    """Copies `data[first:last]` into a row of keys; the number of bytes that fit."""
    size = min(last - first, len(row))
    row[:size] = data[first : first + size]
    return int(size)


def readonly(data: U8) -> U8:
    """Codecs give keys as writable or read-only memory; a kernel is compiled for each, so give it one."""
    view = np.ascontiguousarray(data).view()
    view.flags.writeable = False
    return view


def columns(k: int, whole: I64, real: F64, keys: U8) -> Alerts:
    whole, real, keys = whole[:k], real[:k], keys[:k]
    size = whole[:, KEY_BYTES]
    start = np.zeros(k + 1, np.int64)
    np.cumsum(size, out=start[1:])
    return Alerts(
        rule=whole[:, RULE].astype(np.uint8),
        phase=whole[:, PHASE].astype(np.uint8),
        offset=whole[:, OFFSET].copy(),
        incident=whole[:, INCIDENT].copy(),
        about=whole[:, ABOUT].copy(),
        key=Strings(keys[np.arange(keys.shape[1]) < size[:, None]], start),
        row=whole[:, ROW].copy(),
        ts_ms=whole[:, TS_MS].copy(),
        opened_ms=whole[:, OPENED_MS].copy(),
        events=whole[:, EVENTS].copy(),
        score=real[:, SCORE].copy(),
        threshold=real[:, THRESHOLD].copy(),
        p_value=real[:, P_VALUE].copy(),
        peak_p=real[:, PEAK_P].copy(),
        expected_ms=whole[:, EXPECTED_MS].copy(),
    )
