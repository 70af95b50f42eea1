"""A version that scores beside the one that judges, and is compared with it, without a say."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from stream_ad import metrics
from stream_ad.batch import Scores, Verdicts

if TYPE_CHECKING:
    from stream_ad.models import Models
    from stream_ad.shard import Shard


class Shadow:
    """Thresholds of `version` per shard. They are not saved: a restart begins them anew."""

    def __init__(self, models: Models, version: str) -> None:
        self._models = models
        self.version = version
        self._states: WeakKeyDictionary[Shard, Any] = WeakKeyDictionary()

    def judge(self, shard: Shard, scores: Scores, live: Verdicts) -> None:
        """Counts where the two agree. Begins with the live thresholds, carried over to the shadow's scale."""
        if shard not in self._states:
            state = copy.deepcopy(shard.states.threshold)
            shard.folds.threshold.carry(state, *self._models.compared(shard, self.version))
            self._states[shard] = state
        verdicts = shard.folds.threshold.step(self._states[shard], scores)
        for name, both in (
            ("both", live.flag & verdicts.flag),
            ("live_only", live.flag & ~verdicts.flag),
            ("shadow_only", ~live.flag & verdicts.flag),
            ("neither", ~live.flag & ~verdicts.flag),
        ):
            metrics.SHADOW.labels(self.version, name).inc(int(np.count_nonzero(both)))
