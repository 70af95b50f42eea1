"""A shadow: a version that scores beside the one that judges. Its flags are counted and never published."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from stream_ad import metrics
from stream_ad.batch import F64, Scores, Verdicts
from stream_ad.fold import state as columns

if TYPE_CHECKING:
    from stream_ad.state.shard import Shard


class Shadow:
    """The thresholds of `version`, one state per shard. They are not saved: after a restart they begin anew."""

    def __init__(self, compared: Callable[[Shard, str], tuple[F64, F64]], version: str) -> None:
        """`compared` gives the live and the shadow's scores of a shard's recent windows."""
        self._compared = compared
        self.version = version
        self._states: WeakKeyDictionary[Shard, Any] = WeakKeyDictionary()

    def begin(self, shard: Shard) -> None:
        """Copies the live thresholds once, carried over to the shadow's scores. Call it before they learn a batch."""
        if shard not in self._states:
            state = shard.folds.threshold.init(shard.folds.capacity)
            columns.fill(state, columns.arrays(shard.states.threshold, shard.used))
            shard.folds.threshold.carry(columns.part(state, shard.used), *self._compared(shard, self.version))
            self._states[shard] = state

    def judge(self, shard: Shard, scores: Scores, live: Verdicts) -> None:
        """Counts the rows that both versions judge, by whether their flags agree."""
        verdicts = shard.folds.threshold.step(self._states[shard], scores)
        _, ours, theirs = np.intersect1d(
            live.scores.features.row, scores.features.row, assume_unique=True, return_indices=True
        )
        judging, beside = live.flag[ours], verdicts.flag[theirs]
        for name, both in (
            ("both", judging & beside),
            ("live_only", judging & ~beside),
            ("shadow_only", ~judging & beside),
            ("neither", ~judging & ~beside),
        ):
            metrics.SHADOW.labels(self.version, name).inc(int(np.count_nonzero(both)))
