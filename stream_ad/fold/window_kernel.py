"""The windows' loop over a ring of the last `w` rows of every key."""

from __future__ import annotations

import numpy as np

from stream_ad.batch import F64, I32, I64, Bool
from stream_ad.kernel import kernel, prefetch

AHEAD = 8  # rows; long enough for memory to answer


@kernel
def slide(
    slot: I32,
    fresh: Bool,
    event_ms: I64,
    events: F64,
    span_ms: int,
    hop: int,
    seen: I64,
    ts_ms: I64,
    ring: F64,
    values: F64,
    age_ms: I64,
    count: I32,
    emit: Bool,
) -> None:
    """Writes each event into its key's ring; fills the last four. `span_ms` below zero: none."""
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
            ring[s, newest, field] = events[i, field]
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
