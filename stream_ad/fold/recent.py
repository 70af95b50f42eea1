"""Keeps the latest scored windows: a new model scores them, so that thresholds can be carried over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_ad.batch import F32, I64, FeatureBatch


@dataclass(slots=True)
class RecentState:
    x: F32  # [rows,w,f]  a ring
    seen: I64  # [1]  windows ever written


class Recent:
    """Fold[RecentState, FeatureBatch, None]: the shard's last `rows` scored windows [w,f]."""

    def __init__(self, rows: int, w: int, f: int) -> None:
        self._shape = (rows, w, f)

    def init(self, capacity: int) -> RecentState:
        return RecentState(x=np.zeros(self._shape, np.float32), seen=np.zeros(1, np.int64))

    def step(self, state: RecentState, batch: FeatureBatch) -> None:
        rows, m = self._shape[0], len(batch)
        last = min(m, rows)
        at = (state.seen[0] + np.arange(m - last, m)) % rows
        state.x[at] = batch.x[m - last :]
        state.seen[0] += m

    def windows(self, state: RecentState) -> F32:
        """[r,w,f], r <= rows, oldest first; a copy."""
        rows, seen = self._shape[0], int(state.seen[0])
        return state.x[np.arange(max(0, seen - rows), seen) % rows]
