"""The windows' loop over a ring of the last `w` rows of every key."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stream_ad.batch import F64, I32, I64, Bool
from stream_ad.kernel import kernel, prefetch

AHEAD = 8  # rows between the prefetch of a key's memory and its use


class Events(NamedTuple):
    slot: I32  # [n]
    fresh: Bool  # [n]
    ts_ms: I64  # [n]
    values: F64  # [n,d]


class Rings(NamedTuple):
    """The arrays of a `WindowState`."""

    seen: I64  # [capacity]
    ts_ms: I64  # [capacity,w]
    values: F64  # [capacity,w,d]


class Windows(NamedTuple):
    """The columns of a `WindowBatch`."""

    values: F64  # [n,w,d]
    age_ms: I64  # [n,w]
    present: I32  # [n]  its `count`
    emit: Bool  # [n]


@kernel
def slide(events: Events, rings: Rings, span_ms: int, hop: int, windows: Windows) -> None:
    """Writes each event into its key's ring, and fills `windows`. A `span_ms` below zero means no span."""
    # taken before the loop: within it, numba would count a reference each time
    slot, fresh, event_ms, event_values = events.slot, events.fresh, events.ts_ms, events.values
    seen, ts_ms, ring = rings.seen, rings.ts_ms, rings.values
    values, age_ms, count, emit = windows.values, windows.age_ms, windows.present, windows.emit
    n, w, d = values.shape
    for i in range(n):
        if i + AHEAD < n:
            prefetch(seen, slot[i + AHEAD])
            prefetch(ts_ms, slot[i + AHEAD])
            prefetch(ring, slot[i + AHEAD])
        s = slot[i]
        if fresh[i]:
            seen[s] = 0
        now = event_ms[i]
        newest = seen[s] % w
        ts_ms[s, newest] = now
        for field in range(d):
            ring[s, newest, field] = event_values[i, field]
        emit[i] = seen[s] % hop == 0
        seen[s] += 1
        held = min(seen[s], w)
        present = 0
        at = newest
        for lag in range(w):
            row = w - 1 - lag
            age = now - ts_ms[s, at]
            if lag < held and (span_ms < 0 or age < span_ms):
                age_ms[i, row] = max(age, 0)
                for field in range(d):
                    values[i, row, field] = ring[s, at, field]
                present += 1
            else:
                age_ms[i, row] = -1
                for field in range(d):
                    values[i, row, field] = np.nan
            at = at - 1 if at > 0 else w - 1
        count[i] = present
