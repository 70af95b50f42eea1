"""Batches between the scorer and the alerts, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_ad.batch import F64, EventBatch, FeatureBatch, KeyedBatch, RawBatch, Scores, Strings, Verdicts, WindowBatch

NOW = 1_700_000_000_000


def scores(
    slot: Sequence[int],
    score: Sequence[float] | F64,
    *,
    step_ms: int = 1_000,
    ts_ms: Sequence[int] | None = None,
    fresh: Sequence[int] = (),
    row: Sequence[int] | None = None,
    first_offset: int = 0,
    seen: set[int] | None = None,
) -> Scores:
    """One event per slot named `k<slot>`; `row` = those with a score (default all).

    A slot is fresh where it comes first (unless in `seen`, which is kept up), and at the rows `fresh`.
    """
    n, seen = len(slot), set() if seen is None else seen
    times = [NOW + (first_offset + i) * step_ms for i in range(n)] if ts_ms is None else list(ts_ms)
    new = np.zeros(n, np.bool_)
    for i, s in enumerate(slot):
        new[i] = s not in seen or i in fresh
        seen.add(s)
    offset = np.arange(first_offset, first_offset + n, dtype=np.int64)
    ts = np.array(times, np.int64)
    raw = RawBatch("events", 0, offset, ts, [], [], lambda row: [], first_offset + n)
    keys = Strings.of([b"k%d" % s for s in slot])
    made = EventBatch(raw, offset - first_offset, offset, ts, keys, np.zeros((n, 0)), (), np.zeros((n, 0), np.uint64))
    watermark = np.maximum.accumulate(ts) if n else ts
    keyed = KeyedBatch(made, np.array(slot, np.int32), new, watermark, 0, None)
    windows = WindowBatch(
        keyed, np.zeros((n, 1, 0)), np.zeros((n, 1), np.int64), np.ones(n, np.int32), np.ones(n, np.bool_)
    )
    rows = np.arange(n, dtype=np.int64) if row is None else np.array(row, np.int64)
    m = len(rows)
    features = FeatureBatch(windows, rows, np.zeros((m, 1, 1), np.float32), np.zeros((m, 0, 2)))
    return Scores(features, "v1", np.array(score, np.float64))


def verdicts(batch: Scores, p: Sequence[float], shift: Sequence[int] = ()) -> Verdicts:
    """A score is flagged where its p-value is below 1e-3."""
    p_value = np.array(p, np.float64)
    shifted = np.zeros(len(p_value), np.bool_)
    shifted[list(shift)] = True
    return Verdicts(batch, np.full(len(p_value), 3.0), batch.score, p_value, p_value < 1e-3, shifted)
