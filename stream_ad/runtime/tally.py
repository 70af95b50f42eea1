"""Counts what is judged, rejected and dropped, and what has no value."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from stream_ad import metrics
from stream_ad.batch import FeatureBatch
from stream_ad.config.features import FeatureSpec
from stream_ad.runtime.fields import Fields
from stream_ad.runtime.reject_log import LateLog

EVENTS, REJECTS, LATE = range(3)
Totals: TypeAlias = list[int] | ctypes.Array[ctypes.c_longlong]  # EVENTS, REJECTS, LATE


class Tally:
    """Adds to `totals` at each commit: what a failed transaction drops is judged, and counted, again."""

    def __init__(
        self, spec: FeatureSpec, totals: Totals | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.totals: Totals = [0, 0, 0] if totals is None else totals
        self.fields = Fields(spec)
        self._late_log = LateLog(clock)
        self._open = [0, 0, 0]  # not committed yet

    def judged(self, features: FeatureBatch | None, rejects: int, first: int = -1) -> None:
        """Counts a stretch that is judged, from the offset `first` on: what lies before was judged earlier."""
        self._open[REJECTS] += rejects
        if features is None:
            return
        keyed = features.windows.keyed
        fresh = int(np.searchsorted(keyed.events.offset, first))
        self._open[EVENTS] += len(keyed) - fresh
        self._open[LATE] += keyed.dropped
        metrics.EVENTS.inc(len(keyed) - fresh)
        metrics.LATE.inc(keyed.dropped)
        metrics.QUIET.inc(int(keyed.quiet[fresh:].sum()))
        self._late_log.note(keyed.dropped, keyed.events.raw)
        self.fields.note(keyed, fresh)

    def committed(self) -> None:
        for which, count in enumerate(self._open):
            self.totals[which] += count
        self._open = [0, 0, 0]
