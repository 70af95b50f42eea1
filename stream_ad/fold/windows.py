"""Sliding windows per key: the last rows, or those of the last span of event time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_ad.batch import F64, I64, KeyedBatch, WindowBatch
from stream_ad.config import Window
from stream_ad.errors import ConfigError
from stream_ad.fold.state import per_key
from stream_ad.fold.window_kernel import Events, Rings, Windows, slide


@dataclass
class WindowState:
    seen: I64 = per_key()  # [capacity]  events of the key so far
    ts_ms: I64 = per_key()  # [capacity, w]  row `i` of a key is at `i % w`
    ring: F64 = per_key()  # [capacity, w, d]


class CountWindow:
    """The last `window.rows` events of the key, in the order of the log.

    Lag `j` is the key's j-th event before this one and sits at `[:, -1 - j]`. A lag the key
    does not have yet is absent: NaN, age -1. Where event time runs backwards the age of a
    lag is 0, never negative. Every `window.hop`-th event of a key is emitted, its first
    included; the others only slide the window.
    """

    def __init__(self, window: Window, fields: int) -> None:
        self.window = window
        self.fields = fields
        self.span_ms = -1

    def init(self, capacity: int) -> WindowState:
        w, d = self.window.rows, self.fields
        return WindowState(
            seen=np.zeros(capacity, np.int64),
            ts_ms=np.zeros((capacity, w), np.int64),
            ring=np.zeros((capacity, w, d), np.float64),
        )

    def step(self, state: WindowState, batch: KeyedBatch) -> WindowBatch:
        n, w, d = len(batch), self.window.rows, self.fields
        windows = Windows(
            values=np.empty((n, w, d), np.float64),
            age_ms=np.empty((n, w), np.int64),
            present=np.empty(n, np.int32),
            emit=np.empty(n, np.bool_),
        )
        slide(
            Events(batch.slot, batch.fresh, batch.events.ts_ms, np.ascontiguousarray(batch.events.values)),
            Rings(state.seen, state.ts_ms, state.ring),
            self.span_ms,
            self.window.hop,
            windows,
        )
        return WindowBatch(batch, *windows)


class TimeWindow(CountWindow):
    """Of the last `window.rows` events of the key those younger than `window.span`.

    A lag is present when its event time lies above this event's less the span. Lags keep
    their places, so where event time runs backwards an absent lag may stand between
    present ones. Raises `ConfigError` for a span of zero.
    """

    def __init__(self, window: Window, fields: int) -> None:
        super().__init__(window, fields)
        if window.span <= 0:
            raise ConfigError('window.span: must be above zero where window.kind is "time", as in "1h"')
        self.span_ms = window.span
