"""A version that scores beside the one that judges, and is compared with it, without a say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from stream_ad import metrics
from stream_ad.batch import F64, Scores, Verdicts

if TYPE_CHECKING:
    from stream_ad.state.shard import Shard


class Shadow:
    """Thresholds of `version` per shard. They are not saved: a restart begins them anew."""

    def __init__(self, compared: Callable[[Shard, str], tuple[F64, F64]], version: str) -> None:
        """`compared` gives the live and the shadow's scores of a shard's recent windows."""
        self._compared = compared
        self.version = version
        self._states: WeakKeyDictionary[Shard, Any] = WeakKeyDictionary()

    def begin(self, shard: Shard) -> None:
        """Before the live thresholds learn from a batch: takes them over once, on the shadow's scale."""
        if shard not in self._states:
            state = copy.deepcopy(shard.states.threshold)
            shard.folds.threshold.carry(state, *self._compared(shard, self.version))
            self._states[shard] = state

    def judge(self, shard: Shard, scores: Scores, live: Verdicts) -> None:
        """Counts where the two agree, of the rows that both judge."""
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
