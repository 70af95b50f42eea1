"""Alerts inside a compiled loop: lines of a buffer that grows, and the columns made of them.

One event may cause any number of alerts (timers come due with it), so a loop cannot know the number beforehand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream_ad.batch import I32, I64, U8, Alerts, Bool, KeyedBatch, Strings
from stream_ad.fold.state import Records
from stream_ad.kernel import kernel, read_only

ASKED_AGAIN = 3  # a phase between two folds, never that of an alert: the incident has become more severe
LINE = np.dtype(  # columns as in batch.Alerts
    [
        ("offset", "i8"),
        ("incident", "i8"),
        ("about", "i8"),
        ("row", "i8"),
        ("ts_ms", "i8"),
        ("opened_ms", "i8"),
        ("events", "i8"),
        ("expected_ms", "i8"),
        ("silent_ms", "i8"),
        ("slot", "i8"),
        ("now_ms", "i8"),
        ("score", "f8"),
        ("threshold", "f8"),
        ("p_value", "f8"),
        ("peak_p", "f8"),
        ("rule", "u1"),
        ("phase", "u1"),
    ],
    align=True,
)


class Events(NamedTuple):
    """The columns of the events that a fold needs to write alerts."""

    slot: I32  # [n]
    fresh: Bool  # [n]
    watermark: I64  # [n]
    offset: I64  # [n]
    ts_ms: I64  # [n]
    key_data: U8  # [b]
    key_start: I64  # [n+1]


class Lines(NamedTuple):
    """The alerts written so far, and room for more."""

    written: I64  # [1]  how many
    line: Records  # [>=written]  LINE
    key: U8  # [>=written,max_key_bytes]
    key_bytes: I64  # [>=written]


def events_of(keyed: KeyedBatch) -> Events:
    events = keyed.events
    key_data = read_only(events.key.data)
    return Events(keyed.slot, keyed.fresh, keyed.watermark, events.offset, events.ts_ms, key_data, events.key.start)


def lines(max_key_bytes: int) -> Lines:
    return Lines(
        np.zeros(1, np.int64), np.zeros(16, LINE), np.zeros((16, max_key_bytes), np.uint8), np.zeros(16, np.int64)
    )


@kernel
def add(lines: Lines, key: U8, key_bytes: int) -> Lines:
    """The lines with one more, about `key`. The caller writes its columns."""
    k = lines.written[0]
    if k == len(lines.line):
        more = Lines(
            lines.written,
            np.zeros(2 * k, lines.line.dtype),
            np.zeros((2 * k, lines.key.shape[1]), np.uint8),
            np.zeros(2 * k, np.int64),
        )
        more.line[:k], more.key[:k], more.key_bytes[:k] = lines.line, lines.key, lines.key_bytes
        lines = more
    lines.key[k], lines.key_bytes[k] = key, key_bytes
    lines.written[0] = k + 1
    return lines


@kernel
def write_key(row: U8, events: Events, i: int) -> int:
    """Copies the i-th event's key into a row of keys; the number of bytes that fit."""
    first = events.key_start[i]
    size = min(events.key_start[i + 1] - first, len(row))
    row[:size] = events.key_data[first : first + size]
    return int(size)


def columns(lines: Lines) -> Alerts:
    k = lines.written[0]
    size = lines.key_bytes[:k]
    start = np.zeros(k + 1, np.int64)
    np.cumsum(size, out=start[1:])
    key = Strings(lines.key[:k][np.arange(lines.key.shape[1]) < size[:, None]], start)
    taken: dict[str, Any] = {name: lines.line[name][:k].copy() for name in LINE.names or ()}
    return Alerts(key=key, **taken)
