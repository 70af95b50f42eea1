"""Batches to check the laws with, made of a few columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from stream_ad.batch import F64, EventBatch, FeatureBatch, KeyedBatch, RawBatch, Scores, Strings, WindowBatch

NOW_MS = 1_700_000_000_000


def raw_batch(keys: Sequence[bytes | None], values: Sequence[bytes | None], ts_ms: Sequence[int]) -> RawBatch:
    """Records of one partition from offset 0 on."""
    n = len(values)
    times = np.array(ts_ms, np.int64)
    return RawBatch("law", 0, np.arange(n, dtype=np.int64), times, list(keys), list(values), lambda row: [], n)


def scores(
    slot: Sequence[int],
    score: Sequence[float] | F64,
    *,
    step_ms: int = 1_000,
    ts_ms: Sequence[int] | None = None,
    fresh: Collection[int] = (),
    row: Sequence[int] | None = None,
    first_offset: int = 0,
    seen: set[int] | None = None,
) -> Scores:
    """One event per slot named `k<slot>`; `row` = those with a score (default all).

    A slot is fresh where it comes first (unless in `seen`, which is kept up), and at the rows `fresh`.
    """
    n, seen = len(slot), set() if seen is None else seen
    times = [NOW_MS + (first_offset + i) * step_ms for i in range(n)] if ts_ms is None else list(ts_ms)
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
    keyed = KeyedBatch.of(made, np.array(slot, np.int32), new, watermark)
    windows = WindowBatch(
        keyed, np.zeros((n, 1, 0)), np.zeros((n, 1), np.int64), np.ones(n, np.int32), np.ones(n, np.bool_)
    )
    rows = np.arange(n, dtype=np.int64) if row is None else np.array(row, np.int64)
    m = len(rows)
    features = FeatureBatch(windows, rows, np.zeros((m, 1, 1), np.float32), np.zeros((m, 0, 2)))
    return Scores(features, "v1", np.array(score, np.float64))


def judged_stream(seed: int, rows: int = 400, keys: int = 4) -> Scores:
    """Scores about 0 with outliers, a level that shifts, keys that are replaced, and rows that the hop skips.

    The first and the last row are scored, and the last one is an outlier for any threshold.
    """
    rng = np.random.default_rng(seed)
    score = rng.normal(size=rows) + 10.0 * (np.arange(rows) > rows // 2)
    score[rng.random(rows) < 0.05] += 50.0
    score[-1] = 1e9
    scored = rng.random(rows) < 0.8
    scored[[0, -1]] = True
    row = np.flatnonzero(scored)
    slot = np.concatenate([np.arange(keys), rng.integers(0, keys, rows)])[:rows]
    fresh = np.flatnonzero(rng.random(rows) < 0.02)
    times = NOW_MS + np.cumsum(rng.choice([0, 10, 1_000, 30_000], rows))
    return scores(slot.tolist(), score[row], ts_ms=times.tolist(), fresh=set(fresh.tolist()), row=row.tolist())
